//! Data sets on a web server on loopback that is slow or fails, read by another process with a cache of its own.
#![cfg(feature = "object-store")]
#![allow(clippy::print_stdout, reason = "how one process tells another")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fixture;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tap_dataset::{Columns, Dataset, Reader, RowLayout, Split, ViewSelection, write_samples};

use fixture::{header, sample};

const LAYOUT: RowLayout = RowLayout {
    num_points: 600,
    num_views: 4,
    image_size_px: 32,
    columns: Columns::DEFAULT,
};
const NUM_ROWS: u64 = 240;
const URL: &str = "TAP_TEST_URL";
const LOCAL: &str = "TAP_TEST_LOCAL";

fn write(dir: &Path) {
    let rows = (0..NUM_ROWS).map(|seed| (Split::Train, sample(LAYOUT, seed)));
    write_samples(dir, &header(LAYOUT), 40, rows.collect()).unwrap();
}

/// Run by the other tests: streams all rows, and compares them with those on disk.
#[test]
#[ignore = "the other tests run it in a process of its own, with a server"]
fn reads_all_rows() {
    let (Ok(url), Ok(local)) = (env::var(URL), env::var(LOCAL)) else {
        return;
    };
    let local = Dataset::open(Path::new(&local)).unwrap();
    let began = Instant::now();
    let dataset = Arc::new(Dataset::open(Path::new(&url)).unwrap());
    let mut num_rows = 0;
    for read in Reader::new(dataset).shuffled(1).stream().unwrap() {
        let read = read.unwrap();
        assert_eq!(
            read.sample,
            local.read(Split::Train, read.row, ViewSelection::All).unwrap()
        );
        num_rows += 1;
    }
    assert_eq!(num_rows, NUM_ROWS);
    println!("read in {} ms", began.elapsed().as_millis());
}

/// That test in a process of its own.
fn read_all(server: &Server, cache: &Path, cache_mib: u64) -> Output {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "reads_all_rows", "--nocapture"]);
    command.env(URL, format!("http://127.0.0.1:{}/sets/a", server.port));
    command.env(LOCAL, server.root.join("sets/a"));
    command
        .env("TAP_CACHE_DIR", cache)
        .env("TAP_CACHE_MIB", cache_mib.to_string());
    command.output().unwrap()
}

fn elapsed_ms(output: &Output) -> u64 {
    assert!(output.status.success(), "{output:#?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let ms = text.split("read in ").nth(1).unwrap().split(' ').next().unwrap();
    ms.parse().unwrap()
}

#[test]
fn rows_of_a_server_that_fails_one_request_in_five_are_those_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("sets/a"));
    let server = Server::start(dir.path(), Duration::ZERO, true);
    elapsed_ms(&read_all(&server, &dir.path().join("cache"), 100));
    assert!(server.num_requests() > 20, "{} requests", server.num_requests());
}

#[test]
fn what_a_slow_server_holds_is_read_ahead_and_only_once() {
    const DELAY: Duration = Duration::from_millis(40);
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("sets/a"));
    let cache = dir.path().join("cache");
    let server = Server::start(dir.path(), DELAY, false);
    let first_ms = elapsed_ms(&read_all(&server, &cache, 100));
    let num_requests = server.num_requests();
    let one_by_one_ms = num_requests as u64 * DELAY.as_millis() as u64;
    assert!(
        first_ms < one_by_one_ms / 2,
        "{first_ms} ms for {num_requests} requests of 40 ms"
    );

    // Another process finds it on disk: only the manifest and the lengths of six shards are asked for.
    elapsed_ms(&read_all(&server, &cache, 100));
    let num_again = server.num_requests() - num_requests;
    assert!(num_again <= 8, "{num_again} requests");

    // A shard that was replaced is read anew.
    let shard = dir.path().join("sets/a/train-00000-of-00006.parquet");
    let file = fs::File::options().append(true).open(&shard).unwrap();
    file.set_modified(std::time::SystemTime::now() + Duration::from_secs(5))
        .unwrap();
    let before = server.num_requests();
    elapsed_ms(&read_all(&server, &cache, 100));
    let num_again = server.num_requests() - before;
    assert!(num_again > 8, "{num_again} requests");
}

#[test]
fn without_a_cache_on_disk_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("sets/a"));
    let server = Server::start(dir.path(), Duration::ZERO, false);
    elapsed_ms(&read_all(&server, &dir.path().join("cache"), 0));
    assert!(!dir.path().join("cache").exists());
}

#[test]
fn what_cannot_be_read_of_a_server_is_said() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("sets/a"));
    let server = Server::start(dir.path(), Duration::ZERO, false);
    let error = |url: &str| Dataset::open(Path::new(url)).unwrap_err().to_string();
    let nothing = error(&format!("http://127.0.0.1:{}/sets/b", server.port));
    assert!(nothing.contains("no _manifest.json"), "{nothing}");
    let plain = Dataset::open(Path::new("http://example.com/a")).unwrap_err();
    let plain = std::error::Error::source(&plain).unwrap().to_string();
    assert!(plain.contains("use https://example.com"), "{plain}");
}

/// A web server of a folder, for ranges. Every connection carries one request.
struct Server {
    root: PathBuf,
    port: u16,
    num_requests: Arc<AtomicUsize>,
}

impl Server {
    fn start(root: &Path, delay: Duration, has_faults: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let num_requests = Arc::new(AtomicUsize::new(0));
        let (count, folder) = (Arc::clone(&num_requests), root.to_owned());
        thread::spawn(move || {
            for client in listener.incoming() {
                let (count, folder) = (Arc::clone(&count), folder.clone());
                thread::spawn(move || {
                    let number = count.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(delay);
                    let fault = (has_faults && number % 5 == 3).then_some(number / 5 % 3);
                    // What a broken connection says here is what the test is about.
                    let _ = client.and_then(|client| answer(client, &folder, fault));
                });
            }
        });
        Self {
            root: root.to_owned(),
            port,
            num_requests,
        }
    }

    fn num_requests(&self) -> usize {
        self.num_requests.load(Ordering::SeqCst)
    }
}

fn answer(mut client: TcpStream, root: &Path, fault: Option<usize>) -> std::io::Result<()> {
    let mut lines = BufReader::new(client.try_clone()?).lines();
    let first = lines.next().ok_or(std::io::ErrorKind::UnexpectedEof)??;
    let mut range = None;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.to_lowercase().strip_prefix("range: bytes=") {
            let (from, to) = bytes.split_once('-').unwrap();
            range = Some((from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap()));
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let file = root.join(path.trim_start_matches('/'));
    let Ok(bytes) = fs::read(&file) else {
        return client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    match fault {
        Some(0) => return Ok(()),
        Some(1) => {
            let busy = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            return client.write_all(busy);
        }
        _ => {}
    }
    let changed = fs::metadata(&file)?.modified()?;
    let tag = changed.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let (status, from, to) = match range {
        Some((from, to)) => ("206 Partial Content", from, (to + 1).min(bytes.len())),
        None => ("200 OK", 0, bytes.len()),
    };
    let part = &bytes[from..to];
    let content_range = format!("bytes {from}-{}/{}", to.saturating_sub(1), bytes.len());
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: {content_range}\r\nETag: \"{tag}\"\r\n\
         Connection: close\r\n\r\n",
        part.len()
    )?;
    if method == "HEAD" {
        return Ok(());
    }
    // Cut off in the middle.
    let sent = if fault.is_some() {
        part.len() / 2
    } else {
        part.len()
    };
    client.write_all(&part[..sent])
}
