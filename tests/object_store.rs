//! Data sets in an object store, as a user meets them: against moto's S3 server on loopback, behind a proxy that lets one
//! request in five fail. `scripts/test` lays moto, and names its folder in `TAP_MOTO`.
#![cfg(feature = "object-store")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod util;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use util::{Outcome, TestDir, kill_after, start_unheard};

/// Ends with the test that started it, whatever ends that.
const SERVER: &str = "\
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(['-H', '127.0.0.1', '-p', sys.argv[1]])";

/// What `build` is told in most tests: several shards, small rows.
const SMALL: [&str; 6] = ["--size", "32", "--num-points", "64", "--set", "rows_per_shard=4"];

#[test]
fn a_store_that_fails_one_request_in_five_holds_the_bytes_of_a_local_build() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(3, 8);
    place
        .run(&[&["dataset", "build", "meshes", "--out", "local"][..], &SMALL].concat())
        .succeeds();
    let proxy = Proxy::start(store.port, Faults::OneInFive);
    let run = |arguments: &[&str]| run_with(&place, arguments, proxy.port);
    let build = [
        &["dataset", "build", "meshes", "--out", "s3://bucket/sets/a"][..],
        &SMALL,
    ]
    .concat();
    let outcome = run(&build).succeeds();
    assert!(
        outcome.stdout.contains("24 objects in 7 shards, 0 skipped"),
        "{outcome:#?}"
    );
    assert!(
        store.files("sets/a/") == place.files("local"),
        "other bytes than on a disk: {:?}",
        store.files("sets/a/").keys()
    );
    let again = run(&build).succeeds();
    assert!(again.stdout.contains("24 objects in 7 shards"), "{again:#?}");

    // Everything that reads data sets reads them there.
    for arguments in [
        &["dataset", "verify", "s3://bucket/sets/a", "--deep"][..],
        &["dataset", "inspect", "s3://bucket/sets/a", "--json"],
        &["dataset", "report", "s3://bucket/sets/a", "--json"],
        &["dataset", "overlap", "s3://bucket/sets/a", "local", "--json"],
    ] {
        let remote = run(arguments).succeeds();
        let local: Vec<&str> = arguments
            .iter()
            .map(|&word| word.strip_prefix("s3://bucket/sets/a").map_or(word, |_| "local"))
            .collect();
        let local = place.run(&local).succeeds();
        assert_eq!(remote.stdout, local.stdout, "{arguments:?}");
    }
    run(&["dataset", "preview", "s3://bucket/sets/a", "--out", "page.html"]).succeeds();
    assert!(proxy.num_failed() > 10, "{} requests failed", proxy.num_failed());
}

/// Rows of a store come through a cache on disk, which the next program finds.
#[test]
fn what_was_read_of_a_store_is_not_asked_for_again() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(2, 6);
    let build = [
        &["dataset", "build", "meshes", "--out", "s3://bucket/read"][..],
        &SMALL,
    ];
    run_with(&place, &build.concat(), store.port).succeeds();
    place
        .run(&[&["dataset", "build", "meshes", "--out", "local"][..], &SMALL].concat())
        .succeeds();
    let slow = Proxy::start(store.port, Faults::Slow);
    let count = |arguments: &[&str]| {
        let before = slow.num_requests();
        let outcome = run_with(&place, arguments, slow.port).succeeds();
        (outcome.stdout, slow.num_requests() - before)
    };
    let overlap = ["dataset", "overlap", "s3://bucket/read", "local", "--json"];
    let (first, num_first) = count(&overlap);
    let (second, num_second) = count(&overlap);
    assert_eq!(first, second);
    // What is left is the manifest, the list of the folder and the length of each shard.
    let num_shards = store.files("read/").len() - 1;
    assert!(
        num_second <= num_shards + 3,
        "{num_second} requests for {num_shards} shards"
    );
    assert!(num_second < num_first, "{num_first} requests at first");
}

/// SIGKILL at random moments, through the same faults.
#[test]
fn a_killed_build_goes_on_by_what_the_store_holds() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(3, 8);
    place
        .run(&[&["dataset", "build", "meshes", "--out", "local"][..], &SMALL].concat())
        .succeeds();
    let proxy = Proxy::start(store.port, Faults::OneInFive);
    let build = [
        &["dataset", "build", "meshes", "--out", "s3://bucket/killed"][..],
        &SMALL,
    ]
    .concat();
    for kill_idx in 0..6_u64 {
        kill_after(
            &mut with_store(&place, &build, proxy.port),
            Duration::from_millis(150 + 170 * kill_idx),
        );
    }
    run_with(&place, &build, proxy.port).succeeds();
    assert!(
        store.files("killed/") == place.files("local"),
        "{:?}",
        store.files("killed/").keys()
    );
}

/// A long shard goes in parts; killed in between, it leaves an upload that the next build ends.
#[test]
fn an_upload_that_a_kill_left_behind_is_ended() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(2, 6);
    // 1.5 MB a row: one shard in two parts.
    let build = |out| {
        let settings = ["--size", "16", "--num-points", "65536", "--sampler", "uniform"];
        [&["dataset", "build", "meshes", "--out", out][..], &settings].concat()
    };
    let slow = Proxy::start(store.port, Faults::Slow);
    let mut child = start_unheard(&mut with_store(&place, &build("s3://bucket/long"), slow.port));
    let began = Instant::now();
    while !store.files("long/").keys().any(|name| name.ends_with(".partial")) {
        assert!(
            began.elapsed() < Duration::from_mins(2),
            "no upload in parts began"
        );
        sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(store.num_uploads(), 1, "killed in the middle of an upload");
    assert!(
        !store.files("long/").keys().any(|name| name.ends_with(".parquet")),
        "half a shard under its final name"
    );

    run_with(&place, &build("s3://bucket/long"), store.port).succeeds();
    assert_eq!(store.num_uploads(), 0, "the upload was ended");
    place.run(&build("local")).succeeds();
    let expected = place.files("local");
    assert!(
        store.files("long/") == expected,
        "{:?}",
        store.files("long/").keys()
    );
    let faulty = Proxy::start(store.port, Faults::OneInFive);
    run_with(&place, &build("s3://bucket/faulty"), faulty.port).succeeds();
    assert!(
        store.files("faulty/") == expected,
        "{:?}",
        store.files("faulty/").keys()
    );
}

#[test]
fn parts_are_joined_from_and_to_a_store() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(2, 6);
    let run = |arguments: &[&str]| run_with(&place, arguments, store.port);
    let build = |more: &[&str]| run(&[&["dataset", "build", "meshes"][..], &SMALL, more].concat()).succeeds();
    build(&["--out", "one"]);
    build(&["--out", "s3://bucket/part-1", "--part", "1/2"]);
    build(&["--out", "part-2", "--part", "2/2"]);
    for out in ["s3://bucket/joined", "joined"] {
        run(&["dataset", "merge", "s3://bucket/part-1", "part-2", "--out", out]).succeeds();
    }
    assert!(
        store.files("joined/") == place.files("one"),
        "joined in the store"
    );
    assert!(place.files("joined") == place.files("one"), "joined on a disk");
}

/// Several at once through faults, one of them killed, and the same shards twice.
#[test]
fn units_build_straight_into_a_store() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(3, 8);
    let settings = [&SMALL[..], &["--backend", "cpu"]].concat();
    let on_source = |command, out| [&["dataset", command, "meshes", "--out", out][..], &settings].concat();
    place.run(&on_source("build", "local")).succeeds();
    let proxy = Proxy::start(store.port, Faults::OneInFive);
    let run = |arguments: &[&str]| run_with(&place, arguments, proxy.port);
    let out = "s3://bucket/units";
    run(&on_source("begin", out)).succeeds();
    let unit = |shards| with_store(&place, &["dataset", "unit", out, "--shards", shards], proxy.port);
    kill_after(&mut unit("0-6"), Duration::from_millis(700));
    let units = ["5-6,3", "0,2", "0,2", "3,1"].map(|shards| {
        let mut unit = unit(shards);
        unit.stdout(Stdio::piped()).stderr(Stdio::piped());
        unit.spawn().unwrap()
    });
    for unit in units {
        Outcome::from(unit.wait_with_output().unwrap()).succeeds();
    }
    let status = run(&["dataset", "status", out, "--json"]).succeeds().json();
    if status["missing"] == "4" {
        run(&["dataset", "finish", out]).fails_with(&["1 of 7 shards are missing", "--shards 4", out]);
    }
    run(&["dataset", "unit", out, "--unit", "1/1"]).succeeds();
    run(&["dataset", "finish", out]).succeeds();
    assert!(
        store.files("units/") == place.files("local"),
        "other bytes than on a disk: {:?}",
        store.files("units/").keys()
    );
    run(&["dataset", "finish", out]).succeeds();
    run(&["dataset", "verify", out]).succeeds();
    assert!(proxy.num_failed() > 10, "{} requests failed", proxy.num_failed());
}

#[test]
fn what_a_store_refuses_is_said_in_one_line() {
    let Some(store) = Store::start() else { return };
    let place = TestDir::new();
    place.synthesize(1, 2);
    let run = |arguments: &[&str]| run_with(&place, arguments, store.port);
    run(&[
        "dataset",
        "build",
        "meshes",
        "--size",
        "16",
        "--out",
        "s3://nowhere/a",
    ])
    .fails_with(&["no bucket s3://nowhere"]);
    run(&["dataset", "verify", "s3://nowhere/a"]).fails_with(&["no bucket s3://nowhere"]);
    run(&["dataset", "verify", "s3://bucket/empty"]).fails_with(&["no _manifest.json", "s3://bucket/empty"]);
    store.request("PUT", "/bucket/foreign/thesis.txt", b"my thesis");
    run(&[
        "dataset",
        "build",
        "meshes",
        "--size",
        "16",
        "--out",
        "s3://bucket/foreign",
    ])
    .fails_with(&["holds thesis.txt"]);

    // From here on the server knows who may do what, and us it knows not.
    store.request("POST", "/moto-api/reset-auth", b"0");
    for command in ["build", "verify"] {
        let arguments: &[&str] = if command == "build" {
            &[
                "dataset",
                "build",
                "meshes",
                "--size",
                "16",
                "--out",
                "s3://bucket/a",
            ]
        } else {
            &["dataset", "verify", "s3://bucket/a"]
        };
        run(arguments).fails_with(&["refuses these credentials", "AWS_ACCESS_KEY_ID", "s3://bucket"]);
    }
}

fn run_with(place: &TestDir, arguments: &[&str], port: u16) -> Outcome {
    Outcome::of(&mut with_store(place, arguments, port))
}

/// A command that finds its store at this port of this machine.
fn with_store(place: &TestDir, arguments: &[&str], port: u16) -> Command {
    let mut command = place.command(arguments);
    command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"));
    command.env("TAP_CACHE_DIR", place.path("block-cache"));
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_REGION", "us-east-1"),
    ] {
        command.env(name, value);
    }
    command
}

/// Does a server listen at this port of this machine?
fn is_listening(port: u16) -> bool {
    // Whoever polls a free port can be given that very port to connect from, and is then connected to itself.
    TcpStream::connect(("127.0.0.1", port))
        .is_ok_and(|stream| stream.local_addr().ok() != stream.peer_addr().ok())
}

/// moto's S3 server, with an empty bucket.
struct Store {
    server: Child,
    port: u16,
}

impl Store {
    /// `None` where there is no moto; `TAP_REQUIRE_MOTO` says that there must be.
    fn start() -> Option<Self> {
        let mut python = match std::env::var_os("TAP_MOTO").map(PathBuf::from) {
            Some(packages) => {
                let mut python = Command::new(packages.join("python"));
                python.env("PYTHONPATH", packages);
                python
            }
            None => Command::new("python3"),
        };
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = python
            .args(["-c", SERVER, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let started = Instant::now();
        let mut store = server.ok().map(|server| Self { server, port });
        while let Some(running) = &mut store {
            // Somebody else may have taken the port in between, and answer as they like.
            let bucket = is_listening(port).then(|| running.try_request("PUT", "/bucket", b""));
            if bucket.is_some_and(|answer| answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))) {
                return store;
            }
            if running.server.try_wait().unwrap().is_some() || started.elapsed() > Duration::from_mins(1) {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        assert!(
            std::env::var_os("TAP_REQUIRE_MOTO").is_none(),
            "python3 can't start moto's server"
        );
        util::skip("no S3 server: python3 has no moto (TAP_MOTO names the folder of its packages)");
        None
    }

    /// The server's whole answer.
    fn request(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        self.try_request(method, path, body).unwrap()
    }

    fn try_request(&self, method: &str, path: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
        // moto believes whoever signs, and shows the others nothing.
        let signed = "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: {signed}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        );
        ask(self.port, &[head.as_bytes(), body].concat())
    }

    /// The objects under a prefix, by what follows it.
    fn files(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let listing = self.request("GET", &format!("/bucket?list-type=2&prefix={prefix}"), b"");
        let listing = String::from_utf8(listing).unwrap();
        let keys = listing
            .split("<Key>")
            .skip(1)
            .map(|rest| rest.split("</Key>").next().unwrap());
        keys.map(|key| {
            let answer = self.request("GET", &format!("/bucket/{key}"), b"");
            let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
            (key[prefix.len()..].to_owned(), answer[head + 4..].to_vec())
        })
        .collect()
    }

    fn num_uploads(&self) -> usize {
        let listing = self.request("GET", "/bucket?uploads", b"");
        String::from_utf8(listing).unwrap().matches("<UploadId>").count()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// What a proxy does to requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Faults {
    /// One in five is not heard, not answered, answered by half, or refused for now.
    OneInFive,
    /// All take their time.
    Slow,
}

/// Stands before a store; every connection carries one request.
struct Proxy {
    port: u16,
    num_requests: Arc<AtomicUsize>,
    num_failed: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(store_port: u16, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let num_failed = Arc::new(AtomicUsize::new(0));
        let failed = Arc::clone(&num_failed);
        let num_requests = Arc::new(AtomicUsize::new(0));
        let requests = Arc::clone(&num_requests);
        let count = Arc::new(AtomicU64::new(0));
        thread::spawn(move || {
            for client in listener.incoming() {
                let (failed, count) = (Arc::clone(&failed), Arc::clone(&count));
                requests.fetch_add(1, Ordering::Relaxed);
                // What a broken connection says here is what the test is about.
                thread::spawn(move || {
                    let _ = client.and_then(|client| pass(client, store_port, faults, &count, &failed));
                });
            }
        });
        Self {
            port,
            num_requests,
            num_failed,
        }
    }

    fn num_requests(&self) -> usize {
        self.num_requests.load(Ordering::Relaxed)
    }

    fn num_failed(&self) -> usize {
        self.num_failed.load(Ordering::Relaxed)
    }
}

/// Brings one request to the store and its answer back, or not.
fn pass(
    mut client: TcpStream,
    store_port: u16,
    faults: Faults,
    count: &AtomicU64,
    num_failed: &AtomicUsize,
) -> std::io::Result<()> {
    let request = read_request(&mut client)?;
    if faults == Faults::Slow {
        sleep(Duration::from_millis(400));
        return client.write_all(&ask(store_port, &request)?);
    }
    let idx = count.fetch_add(1, Ordering::Relaxed);
    // Which of each five fails wanders, and so does how.
    let (round, place) = (idx / 5, idx % 5);
    if place != (round * 7 + 2) % 5 {
        return client.write_all(&ask(store_port, &request)?);
    }
    num_failed.fetch_add(1, Ordering::Relaxed);
    match round % 4 {
        0 => {}
        1 => drop(ask(store_port, &request)?),
        2 => {
            let answer = ask(store_port, &request)?;
            client.write_all(&answer[..answer.len() - answer.len() / 3])?;
        }
        _ => client.write_all(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 43\r\nConnection: close\r\n\r\n\
              <Error><Code>SlowDown</Code></Error>       ",
        )?,
    }
    client.shutdown(Shutdown::Both)
}

/// A request's head and as much of a body as the head says.
fn read_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let num_read = client.read(&mut buffer)?;
        if num_read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&buffer[..num_read]);
        let Some(end) = request.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let body = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let body: usize = body.map_or(0, |len| len.trim().parse().unwrap());
        if request.len() >= end + 4 + body {
            return Ok(request);
        }
    }
}

/// The whole answer of a server that closes the connection behind it.
fn ask(port: u16, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", port))?;
    server.write_all(request)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}
