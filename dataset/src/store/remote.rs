//! Files in an object store, through the `object_store` crate: S3 and what speaks like it, Google Cloud Storage, Azure.
//!
//! Credentials come from the usual environment (`AWS_*`, `GOOGLE_*`, `AZURE_*`), or from the machine's role. Every
//! request is repeated with growing pauses while the store is out of order. Short files are one request; long ones go
//! in parts, and while they do, a small object `<name>.partial` remembers the upload, so that the next build ends one
//! that a kill has left behind.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{
    ClientConfigKey, Error, MultipartId, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};
use tokio::runtime::{Builder, Runtime};

use super::{Found, address};

/// Longer files go in parts of this length; it is what an upload holds in memory.
const PART_BYTES: usize = 1 << 24;
/// How long a request may take: parts pass on any line above 1.2 Mbit/s.
const REQUEST_TIMEOUT: &str = "120 seconds";
/// How long a store that has answered before may be out of order.
const PATIENCE: Duration = Duration::from_mins(3);
/// How long one may that never has: a wrong address should not take minutes to show.
const FIRST_PATIENCE: Duration = Duration::from_secs(15);
/// The pauses between attempts grow from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// What is read at least, because more of it will be asked for soon, and how many such pieces a file remembers.
const READ_AHEAD_BYTES: u64 = 1 << 16;
const MAX_PIECES: usize = 16;
/// No upload has a longer name.
const MAX_UPLOAD_NAME_BYTES: u64 = 1 << 14;

/// A place in an object store.
#[derive(Debug, Clone)]
pub(super) struct Location {
    bucket: Arc<Bucket>,
    key: Key,
}

/// A client of one bucket.
#[derive(Debug)]
struct Bucket {
    store: Box<dyn Store>,
    scheme: &'static str,
    name: String,
    /// Was there ever an answer?
    has_answered: AtomicBool,
}

trait Store: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Store for T {}

impl Location {
    /// The place that an address names; `None` for a path of this machine.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        let Some(address) = address::parse(path) else {
            return Ok(None);
        };
        Ok(Some(Self {
            bucket: Bucket::of(address.scheme, address.bucket)?,
            key: Key::parse(address.key).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?,
        }))
    }

    pub(super) fn list(&self) -> io::Result<Vec<Found>> {
        let listed = self.ask(async |store, key| store.list_with_delimiter(Some(key)).await)?;
        let files = listed.objects.into_iter().filter_map(|object| {
            Some(Found {
                name: object.location.filename()?.to_owned(),
                bytes: object.size,
            })
        });
        let folders = listed.common_prefixes.iter().filter_map(|folder| {
            Some(Found {
                name: format!("{}/", folder.filename()?),
                bytes: 0,
            })
        });
        Ok(files.chain(folders).collect())
    }

    pub(super) fn read_bounded(&self, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let bytes = self.ask(async |store, key| {
            let found = store.get(key).await?;
            if found.meta.size > limit_bytes {
                return Ok(None);
            }
            found.bytes().await.map(Some)
        })?;
        bytes.map(Vec::from).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("more than {limit_bytes} bytes"),
            )
        })
    }

    pub(super) fn put(&self, bytes: &[u8]) -> io::Result<()> {
        self.put_bytes(Bytes::copy_from_slice(bytes))
    }

    fn put_bytes(&self, bytes: Bytes) -> io::Result<()> {
        let payload = PutPayload::from_bytes(bytes);
        self.ask(async |store, key| store.put_opts(key, payload.clone(), PutOptions::default()).await)?;
        Ok(())
    }

    /// Removes a file; a half-written one with the upload that it stands for.
    pub(super) fn remove(&self) -> io::Result<()> {
        if let Some(whole) = self.key.as_ref().strip_suffix(".partial")
            && let Ok(upload) = self.read_bounded(MAX_UPLOAD_NAME_BYTES)
            && let Ok(upload) = String::from_utf8(upload)
        {
            let whole = Self {
                bucket: Arc::clone(&self.bucket),
                key: Key::from(whole),
            };
            whole.abort(&upload)?;
            tracing::info!(file = %whole.key, "ended an upload that was left behind");
        }
        ignore_missing(self.ask(async |store, key| store.delete(key).await))
    }

    fn abort(&self, upload: &MultipartId) -> io::Result<()> {
        ignore_missing(self.ask(async |store, key| store.abort_multipart(key, upload).await))
    }

    pub(super) fn open(&self) -> io::Result<RemoteFile> {
        let found = self.ask(async |store, key| store.head(key).await)?;
        Ok(RemoteFile {
            location: self.clone(),
            len: found.size,
            pieces: Mutex::default(),
        })
    }

    pub(super) fn create(self) -> Upload {
        Upload {
            location: self,
            waiting: Vec::new(),
            num_sent: 0,
            parts: None,
        }
    }

    pub(super) fn version(&self) -> io::Result<Version> {
        match self.ask(async |store, key| store.head(key).await) {
            Ok(found) => Ok(Version(Some(UpdateVersion {
                e_tag: found.e_tag,
                version: found.version,
            }))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Version(None)),
            Err(e) => Err(e),
        }
    }

    /// Replaces a file that nobody else has replaced since its version was seen.
    pub(super) fn replace(&self, bytes: &[u8], version: &mut Version) -> io::Result<()> {
        let payload = PutPayload::from_bytes(Bytes::copy_from_slice(bytes));
        let mode = version.0.clone().map_or(PutMode::Create, PutMode::Update);
        let put = self.bucket.attempt(async |store| {
            let options = PutOptions::from(mode.clone());
            store.put_opts(&self.key, payload.clone(), options).await
        });
        match put {
            Ok(put) => {
                *version = Version(Some(put.into()));
                Ok(())
            }
            // A store that knows no conditions.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => self.put(bytes),
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotModified { .. }) => {
                // It may have been this very request, whose answer was lost.
                if !self
                    .read_bounded(bytes.len() as u64)
                    .is_ok_and(|found| found == bytes)
                {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
                *version = self.version()?;
                Ok(())
            }
            Err(e) => Err(self.told(&e)),
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "a request is written where it is made"
    )]
    fn ask<T>(&self, request: impl AsyncFn(&dyn Store, &Key) -> object_store::Result<T>) -> io::Result<T> {
        let answer = self.bucket.attempt(async |store| request(store, &self.key).await);
        answer.map_err(|e| self.told(&e))
    }

    /// An error in words that say what to do.
    fn told(&self, error: &Error) -> io::Error {
        let Bucket { scheme, name, .. } = &*self.bucket;
        let text = error.to_string();
        let is_without_bucket = [
            "NoSuchBucket",
            "ContainerNotFound",
            "specified bucket does not exist",
        ]
        .iter()
        .any(|code| text.contains(code));
        if is_without_bucket {
            let message = format!("there is no bucket {scheme}://{name}; make it first");
            return io::Error::other(message);
        }
        // Where no variable names them, the machine is asked for a role; most have none.
        if text.contains("169.254.169.254") {
            let message = format!(
                "no credentials for {scheme}://{name}; set {}",
                credentials_of(scheme)
            );
            return io::Error::new(io::ErrorKind::PermissionDenied, message);
        }
        match error {
            Error::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, "no such object"),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{scheme}://{name} refuses these credentials ({}); they come from {}",
                    code_of(&text),
                    credentials_of(scheme)
                ),
            ),
            _ => io::Error::other(text.replace('\n', " ")),
        }
    }
}

/// The word that a store gives as a reason, in XML.
fn code_of(text: &str) -> &str {
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or("without a reason", |(code, _)| code)
}

fn credentials_of(scheme: &str) -> &'static str {
    match scheme {
        "gs" => "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT, or the machine's account",
        "az" => "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or another AZURE_* variable",
        _ => {
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN, AWS_REGION), or the machine's role"
        }
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

impl Bucket {
    /// The client of a bucket: one for the whole program, because it keeps connections open.
    fn of(scheme: &'static str, name: &str) -> io::Result<Arc<Self>> {
        static BUCKETS: Mutex<BTreeMap<(&str, String), Arc<Bucket>>> = Mutex::new(BTreeMap::new());
        let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (scheme, name.to_owned());
        if let Some(bucket) = buckets.get(&key) {
            return Ok(Arc::clone(bucket));
        }
        let store = connect(scheme, name).map_err(|e| {
            let message = format!("{e}; set {}", credentials_of(scheme));
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let bucket = Arc::new(Self {
            store,
            scheme,
            name: name.to_owned(),
            has_answered: AtomicBool::new(false),
        });
        buckets.insert(key, Arc::clone(&bucket));
        Ok(bucket)
    }

    /// Asks until there is an answer, or patience ends.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a request is written where it is made"
    )]
    fn attempt<T>(
        &self,
        request: impl AsyncFn(&dyn Store) -> object_store::Result<T>,
    ) -> object_store::Result<T> {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = runtime().block_on(request(&*self.store));
            let error = match answer {
                Err(error) if is_passing(&error) => error,
                answer => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    return answer;
                }
            };
            let patience = if self.has_answered.load(Ordering::Relaxed) {
                PATIENCE
            } else {
                FIRST_PATIENCE
            };
            if started.elapsed() > patience {
                return Err(error);
            }
            tracing::debug!(bucket = self.name, error = %error, "the store failed; it is asked again");
            std::thread::sleep(pause);
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// Is it worth asking again? The crate gives other kinds to what it knows to be final; of the rest, what a server answers
/// with a status of the 400s is final too.
fn is_passing(error: &Error) -> bool {
    let Error::Generic { source, .. } = error else {
        return matches!(error, Error::JoinError { .. });
    };
    let text = source.to_string();
    !text.contains("status code: 4") || text.contains("status code: 408") || text.contains("status code: 429")
}

fn connect(scheme: &str, bucket: &str) -> object_store::Result<Box<dyn Store>> {
    // Requests are repeated here, all of them; what the crate repeats by itself are credentials and broken-off bodies.
    let retry = RetryConfig {
        max_retries: 2,
        ..RetryConfig::default()
    };
    let timeout = ClientConfigKey::Timeout;
    Ok(match scheme {
        "gs" => Box::new(
            GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_retry(retry)
                .with_config(GoogleConfigKey::Client(timeout), REQUEST_TIMEOUT)
                .build()?,
        ),
        "az" => {
            let builder = MicrosoftAzureBuilder::from_env()
                .with_container_name(bucket)
                .with_retry(retry)
                .with_config(AzureConfigKey::Client(timeout), REQUEST_TIMEOUT);
            let is_near = is_loopback(builder.get_config_value(&AzureConfigKey::Endpoint));
            Box::new(
                if is_near {
                    builder.with_allow_http(true)
                } else {
                    builder
                }
                .build()?,
            )
        }
        _ => {
            let builder = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_retry(retry)
                .with_config(AmazonS3ConfigKey::Client(timeout), REQUEST_TIMEOUT);
            let is_near = is_loopback(builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
            Box::new(
                if is_near {
                    builder.with_allow_http(true)
                } else {
                    builder
                }
                .build()?,
            )
        }
    })
}

/// Is the endpoint on this machine? Nobody listens in between, so plain HTTP is as good.
fn is_loopback(endpoint: Option<String>) -> bool {
    let endpoint = endpoint.unwrap_or_default();
    let host = endpoint.strip_prefix("http://").unwrap_or_default();
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| {
        host.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    })
}

/// The crate below is asynchronous; callers here wait.
fn runtime() -> &'static Runtime {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("object store")
            .enable_all()
            .build()
            .expect("the system has a thread to spare")
    });
    &RUNTIME
}

/// A temporary file that is gone when it is closed, even by a kill.
pub(super) fn unnamed_file() -> io::Result<File> {
    tempfile::tempfile()
}

/// Which version of a file was seen last; `None` if there was none.
#[derive(Debug)]
pub(crate) struct Version(Option<UpdateVersion>);

/// A file of an object store, read by ranges.
#[derive(Debug)]
pub(crate) struct RemoteFile {
    location: Location,
    len: u64,
    /// What was read last, with its position: the parts of a row that lie side by side come in one request.
    pieces: Mutex<VecDeque<(u64, Bytes)>>,
}

impl RemoteFile {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Exactly these bytes.
    pub(super) fn bytes(&self, position: u64, num: usize) -> io::Result<Bytes> {
        let end = position
            .checked_add(num as u64)
            .filter(|&end| end <= self.len)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if num == 0 {
            return Ok(Bytes::new());
        }
        let remembered = self.pieces().iter().find_map(|(start, piece)| {
            let from = position.checked_sub(*start)? as usize;
            (from + num <= piece.len()).then(|| piece.slice(from..from + num))
        });
        if let Some(bytes) = remembered {
            return Ok(bytes);
        }
        // Footers are read from the end backwards, everything else forwards.
        let tail = self.len.saturating_sub(READ_AHEAD_BYTES);
        let range = position.min(tail.max(position.saturating_sub(READ_AHEAD_BYTES)))
            ..end.max(position + READ_AHEAD_BYTES).min(self.len);
        let start = range.start;
        let piece = self
            .location
            .ask(async |store, key| store.get_range(key, range.clone()).await)?;
        let from = (position - start) as usize;
        if piece.len() < from + num {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = piece.slice(from..from + num);
        if num as u64 <= READ_AHEAD_BYTES {
            let mut pieces = self.pieces();
            pieces.truncate(MAX_PIECES - 1);
            pieces.push_front((start, piece));
        }
        Ok(bytes)
    }

    fn pieces(&self) -> std::sync::MutexGuard<'_, VecDeque<(u64, Bytes)>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file on its way to an object store.
#[derive(Debug)]
pub(super) struct Upload {
    location: Location,
    /// What is not sent yet.
    waiting: Vec<u8>,
    num_sent: u64,
    /// What is sent, once it is known to be a long file.
    parts: Option<(MultipartId, Vec<PartId>)>,
}

impl Upload {
    /// Where the name of the upload is remembered while it lasts.
    fn mark(&self) -> Location {
        Location {
            bucket: Arc::clone(&self.location.bucket),
            key: Key::from(format!("{}.partial", self.location.key)),
        }
    }

    fn send_part(&mut self) -> io::Result<()> {
        let location = self.location.clone();
        if self.parts.is_none() {
            let upload = location.ask(async |store, key| store.create_multipart(key).await)?;
            self.parts = Some((upload.clone(), Vec::new()));
            self.mark().put(upload.as_bytes())?;
        }
        let (upload, parts) = self.parts.as_mut().expect("the upload was just begun");
        let part = PutPayload::from_bytes(std::mem::take(&mut self.waiting).into());
        let num_bytes = part.content_length() as u64;
        let part =
            location.ask(async |store, key| store.put_part(key, upload, parts.len(), part.clone()).await)?;
        parts.push(part);
        self.num_sent += num_bytes;
        Ok(())
    }

    /// Sends the rest; from here on the file is there.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.parts.is_none() {
            return self.location.put_bytes(std::mem::take(&mut self.waiting).into());
        }
        if !self.waiting.is_empty() {
            self.send_part()?;
        }
        let (upload, parts) = self.parts.as_ref().expect("it is a long file");
        let completed = self
            .location
            .ask(async |store, key| store.complete_multipart(key, upload, parts.clone()).await);
        if let Err(e) = completed {
            // An answer may have been lost: then the upload is gone, and the file is there.
            let is_there = self.location.open().is_ok_and(|file| file.len() == self.num_sent);
            if !is_there {
                return Err(e);
            }
        }
        self.parts = None;
        ignore_missing(self.mark().ask(async |store, key| store.delete(key).await))
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let num = bytes.len().min(PART_BYTES - self.waiting.len());
        self.waiting.extend_from_slice(&bytes[..num]);
        if self.waiting.len() == PART_BYTES {
            self.send_part()?;
        }
        Ok(num)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.parts.is_some() {
            // What can't be ended now is ended by the next build, which finds the mark.
            let _ = self.mark().remove();
        }
    }
}
