//! Files in an object store through the `object_store` crate: S3 and compatible, Google Cloud Storage, Azure; and files of a
//! web server, which are only read.
//!
//! Credentials come from the usual environment variables (`AWS_*`, `GOOGLE_*`, `AZURE_*`) or from the
//! machine's role. Requests are retried with exponential backoff. What is read goes through the [`BlockCache`]. Small files
//! are one request; large ones are multipart uploads, whose id is kept in a small object `<name>.<attempt>.partial`, so the
//! next build can abort an upload that a kill left behind.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
#[cfg(feature = "build")]
use std::time::SystemTime;
use std::time::{Duration, Instant};

use bytes::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
#[cfg(feature = "build")]
use object_store::list::PaginatedListOptions;
use object_store::list::PaginatedListStore;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::{
    ClientConfigKey, ClientOptions, Error, MultipartId, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, RetryConfig, UpdateVersion, coalesce_ranges,
};
use tokio::runtime::{Builder, Runtime};

use super::block_cache::{BLOCK_BYTES, BlockCache, ObjectVersion};
use super::{DirEntry, url};
#[cfg(feature = "build")]
use super::{FileState, time_of_state};
use crate::atomic_file::{attempt_suffix, complete_name};

/// Size of an upload part, which is buffered in memory; larger files use multipart uploads.
const PART_BYTES: usize = 1 << 24;
/// Timeout of a request; at this value a part needs 1.2 Mbit/s.
const REQUEST_TIMEOUT: &str = "120 seconds";
/// Retry time for a store that has responded before.
const RETRY_TIMEOUT: Duration = Duration::from_mins(3);
/// Retry time for a store that never has: a wrong URL should fail quickly.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Range of the exponential backoff.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// Longer reads, of whole files, go past the cache.
const MAX_CACHED_READ_BYTES: usize = 1 << 22;
/// Ranges that are nearer to each other are one request.
const MAX_GAP_BYTES: u64 = BLOCK_BYTES;
/// Length limit of an upload id.
const MAX_UPLOAD_NAME_BYTES: u64 = 1 << 14;

/// An object in a store.
#[derive(Debug, Clone)]
pub(super) struct Location {
    bucket: Arc<Bucket>,
    key: Key,
}

/// Client of one bucket.
struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// The same store; `None` for a web server.
    uploads: Option<Arc<dyn Uploads>>,
    scheme: &'static str,
    name: String,
    /// Whether any request has succeeded.
    has_responded: AtomicBool,
}

/// What a store can do and a web server cannot.
trait Uploads: MultipartStore + PaginatedListStore {}

impl<T: MultipartStore + PaginatedListStore> Uploads for T {}

/// Clients of a bucket, for reading and for uploads.
type Clients = (Arc<dyn ObjectStore>, Option<Arc<dyn Uploads>>);

impl Location {
    /// The object of a URL; `None` for local paths.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        let Some(url) = url::parse(path) else {
            return Ok(None);
        };
        Ok(Some(Self {
            bucket: Bucket::connect(url.scheme, url.bucket)?,
            key: Key::parse(url.key).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?,
        }))
    }

    /// Direct entries of a folder; none of a web server, which has no list.
    pub(super) fn list(&self) -> io::Result<Vec<DirEntry>> {
        if !self.can_list() {
            return Ok(Vec::new());
        }
        let listed = self.request(async |store, key| store.list_with_delimiter(Some(key)).await)?;
        let files = listed.objects.into_iter().filter_map(|object| {
            Some(DirEntry {
                name: object.location.filename()?.to_owned(),
                bytes: object.size,
            })
        });
        let folders = listed.common_prefixes.iter().filter_map(|folder| {
            Some(DirEntry {
                name: format!("{}/", folder.filename()?),
                bytes: 0,
            })
        });
        Ok(files.chain(folders).collect())
    }

    /// Whether the store lists what it holds.
    pub(super) fn can_list(&self) -> bool {
        self.bucket.uploads.is_some()
    }

    /// All objects below a folder, page by page: each is retried alone, so a long list needs no luck.
    #[cfg(feature = "build")]
    pub(super) fn list_all(&self, on_file: &mut dyn FnMut(String, FileState)) -> io::Result<()> {
        let uploads = self.uploads()?;
        let folder = match self.key.as_ref() {
            "" => String::new(),
            key => format!("{key}/"),
        };
        let mut page_token = None;
        loop {
            let page = self.request(async |_, _| {
                let options = PaginatedListOptions {
                    page_token: page_token.clone(),
                    ..PaginatedListOptions::default()
                };
                let prefix = Some(folder.as_str()).filter(|prefix| !prefix.is_empty());
                uploads.list_paginated(prefix, options).await
            })?;
            for object in page.result.objects {
                // An object that stands for the folder itself has its name.
                if let Some(path) = object.location.as_ref().strip_prefix(&folder) {
                    on_file(path.to_owned(), state_of(&object));
                }
            }
            page_token = match page.page_token {
                Some(next) => Some(next),
                None => return Ok(()),
            };
        }
    }

    #[cfg(feature = "build")]
    pub(super) fn state(&self) -> io::Result<FileState> {
        let found = self.request(async |store, key| store.head(key).await)?;
        Ok(state_of(&found))
    }

    pub(super) fn read_bounded(&self, limit_bytes: u64) -> io::Result<Vec<u8>> {
        let bytes = self.request(async |store, key| {
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
        self.uploads()?;
        let payload = PutPayload::from_bytes(bytes);
        self.request(async |store, key| store.put_opts(key, payload.clone(), PutOptions::default()).await)?;
        Ok(())
    }

    /// Deletes an object; for a partial file, also aborts its upload.
    pub(super) fn remove(&self) -> io::Result<()> {
        if let Some(whole) = complete_name(self.key.as_ref())
            && let Ok(upload) = self.read_bounded(MAX_UPLOAD_NAME_BYTES)
            && let Ok(upload) = String::from_utf8(upload)
        {
            let whole = Self {
                bucket: Arc::clone(&self.bucket),
                key: Key::from(whole),
            };
            whole.abort(&upload)?;
            tracing::info!(file = %whole.key, "aborted an upload that was left behind");
        }
        ignore_missing(self.request(async |store, key| store.delete(key).await))
    }

    fn abort(&self, upload: &MultipartId) -> io::Result<()> {
        let uploads = self.uploads()?;
        ignore_missing(self.request(async |_, key| uploads.abort_multipart(key, upload).await))
    }

    pub(super) fn open(&self) -> io::Result<RemoteFile> {
        let found = self.request(async |store, key| store.head(key).await)?;
        Ok(RemoteFile::new(self.clone(), &found))
    }

    /// The client for uploads; refuses a web server.
    fn uploads(&self) -> io::Result<&dyn Uploads> {
        self.bucket.uploads.as_deref().ok_or_else(|| {
            let message = format!(
                "{}:// is only read from, and has no list of its files; take a folder or a bucket",
                self.bucket.scheme
            );
            io::Error::new(io::ErrorKind::Unsupported, message)
        })
    }

    pub(super) fn create(self) -> Upload {
        Upload::new(self)
    }

    pub(super) fn version(&self) -> io::Result<Version> {
        match self.request(async |store, key| store.head(key).await) {
            Ok(found) => Ok(Version(Some(UpdateVersion {
                e_tag: found.e_tag,
                version: found.version,
            }))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Version(None)),
            Err(e) => Err(e),
        }
    }

    /// Replaces an object only if it still has the given version.
    pub(super) fn replace(&self, bytes: &[u8], version: &mut Version) -> io::Result<()> {
        self.uploads()?;
        let payload = PutPayload::from_bytes(Bytes::copy_from_slice(bytes));
        let mode = version.0.clone().map_or(PutMode::Create, PutMode::Update);
        let put = self.bucket.retry(async |store| {
            let options = PutOptions::from(mode.clone());
            store.put_opts(&self.key, payload.clone(), options).await
        });
        match put {
            Ok(put) => {
                *version = Version(Some(put.into()));
                Ok(())
            }
            // The store does not support conditional writes.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => self.put(bytes),
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotModified { .. }) => {
                // An earlier attempt may have succeeded with its response lost.
                if !self
                    .read_bounded(bytes.len() as u64)
                    .is_ok_and(|found| found == bytes)
                {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
                *version = self.version()?;
                Ok(())
            }
            Err(e) => Err(self.to_io_error(&e)),
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "a request is written where it is made"
    )]
    fn request<T>(
        &self,
        request: impl AsyncFn(&dyn ObjectStore, &Key) -> object_store::Result<T>,
    ) -> io::Result<T> {
        let response = self.bucket.retry(async |store| request(store, &self.key).await);
        response.map_err(|e| self.to_io_error(&e))
    }

    /// Converts to an I/O error with an actionable message.
    fn to_io_error(&self, error: &Error) -> io::Error {
        let Bucket { scheme, name, .. } = &*self.bucket;
        let text = error.to_string();
        let is_bucket_missing = [
            "NoSuchBucket",
            "ContainerNotFound",
            "specified bucket does not exist",
        ]
        .iter()
        .any(|code| text.contains(code));
        if is_bucket_missing {
            let message =
                format!("there is no bucket {scheme}://{name}; create it, or see whether this is its name");
            return io::Error::other(message);
        }
        // Without credentials in the environment the client asks the instance metadata service; most machines
        // have none.
        if text.contains("169.254.169.254") {
            let message = format!(
                "no credentials for {scheme}://{name}; set {}",
                credentials_hint(scheme)
            );
            return io::Error::new(io::ErrorKind::PermissionDenied, message);
        }
        match error {
            Error::NotFound { .. } => io::Error::new(io::ErrorKind::NotFound, "no such object"),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "{scheme}://{name} refuses these credentials ({}); they come from {}",
                    error_code(&text),
                    credentials_hint(scheme)
                ),
            ),
            // Asked for until the time was over: nothing is known of the object, another time may tell.
            error if is_transient(error) => io::Error::new(io::ErrorKind::TimedOut, text.replace('\n', " ")),
            _ => io::Error::other(text.replace('\n', " ")),
        }
    }
}

#[cfg(feature = "build")]
fn state_of(found: &ObjectMeta) -> FileState {
    let changed = SystemTime::from(found.last_modified);
    // What a web server says that tells no times.
    let tells_times = changed > SystemTime::UNIX_EPOCH;
    let changed = match found.version.as_ref().or(found.e_tag.as_ref()) {
        Some(tag) => time_of_state(changed, tag),
        None => changed,
    };
    FileState {
        bytes: found.size,
        changed: tells_times.then_some(changed),
    }
}

/// Error code in an XML response.
fn error_code(text: &str) -> &str {
    let code = text
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or("without a reason", |(code, _)| code)
}

fn credentials_hint(scheme: &str) -> &'static str {
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

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.name)
    }
}

impl Bucket {
    /// The client of a bucket, shared by the whole program to reuse connections.
    fn connect(scheme: &'static str, name: &str) -> io::Result<Arc<Self>> {
        static BUCKETS: Mutex<BTreeMap<(&str, String), Arc<Bucket>>> = Mutex::new(BTreeMap::new());
        let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (scheme, name.to_owned());
        if let Some(bucket) = buckets.get(&key) {
            return Ok(Arc::clone(bucket));
        }
        if scheme == "http" && !is_loopback(Some(format!("http://{name}"))) {
            let message = format!("http:// is only for this machine; use https://{name}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let (store, uploads) = new_clients(scheme, name).map_err(|e| {
            let message = format!("{e}; set {}", credentials_hint(scheme));
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        let bucket = Arc::new(Self {
            store,
            uploads,
            scheme,
            name: name.to_owned(),
            has_responded: AtomicBool::new(false),
        });
        buckets.insert(key, Arc::clone(&bucket));
        Ok(bucket)
    }

    /// Sends a request with retries.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a request is written where it is made"
    )]
    fn retry<T>(
        &self,
        request: impl AsyncFn(&dyn ObjectStore) -> object_store::Result<T>,
    ) -> object_store::Result<T> {
        let started = Instant::now();
        let mut backoff = MIN_BACKOFF;
        loop {
            let response = runtime().block_on(request(&*self.store));
            let error = match response {
                Err(error) if is_transient(&error) => error,
                response => {
                    self.has_responded.store(true, Ordering::Relaxed);
                    return response;
                }
            };
            let timeout = if self.has_responded.load(Ordering::Relaxed) {
                RETRY_TIMEOUT
            } else {
                CONNECT_TIMEOUT
            };
            if started.elapsed() > timeout {
                return Err(error);
            }
            tracing::debug!(bucket = self.name, error = %error, "the request failed and is retried");
            std::thread::sleep(backoff);
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }
}

/// Whether a retry may help. Errors known to be final have their own variants; of the rest, HTTP 4xx is
/// final.
fn is_transient(error: &Error) -> bool {
    let Error::Generic { source, .. } = error else {
        return matches!(error, Error::JoinError { .. });
    };
    let text = source.to_string();
    !text.contains("status code: 4") || text.contains("status code: 408") || text.contains("status code: 429")
}

fn new_clients(scheme: &str, bucket: &str) -> object_store::Result<Clients> {
    // All requests are retried here; the crate itself retries only credentials and interrupted bodies.
    let retry = RetryConfig {
        max_retries: 2,
        ..RetryConfig::default()
    };
    let timeout = ClientConfigKey::Timeout;
    Ok(match scheme {
        "http" | "https" => {
            let options = ClientOptions::new()
                .with_config(timeout, REQUEST_TIMEOUT)
                .with_allow_http(scheme == "http");
            let client = HttpBuilder::new()
                .with_url(format!("{scheme}://{bucket}"))
                .with_client_options(options)
                .with_retry(retry)
                .build()?;
            (Arc::new(client), None)
        }
        "gs" => reading_and_uploading(
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
            let is_local = is_loopback(builder.get_config_value(&AzureConfigKey::Endpoint));
            let builder = if is_local {
                builder.with_allow_http(true)
            } else {
                builder
            };
            reading_and_uploading(builder.build()?)
        }
        _ => {
            let builder = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_retry(retry)
                .with_config(AmazonS3ConfigKey::Client(timeout), REQUEST_TIMEOUT);
            let is_local = is_loopback(builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
            let builder = if is_local {
                builder.with_allow_http(true)
            } else {
                builder
            };
            reading_and_uploading(builder.build()?)
        }
    })
}

fn reading_and_uploading<T: ObjectStore + MultipartStore + PaginatedListStore>(client: T) -> Clients {
    let client = Arc::new(client);
    (client.clone(), Some(client))
}

/// Whether the endpoint is local, so that plain HTTP is safe.
fn is_loopback(endpoint: Option<String>) -> bool {
    let endpoint = endpoint.unwrap_or_default();
    let host = endpoint.strip_prefix("http://").unwrap_or_default();
    ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| {
        host.strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/']))
    })
}

/// The `object_store` crate is asynchronous; this crate blocks.
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

/// A temporary file without a name, removed on close.
pub(super) fn anonymous_temp_file() -> io::Result<File> {
    tempfile::tempfile()
}

/// Last seen version of an object; `None` if it did not exist.
#[derive(Debug)]
pub(crate) struct Version(Option<UpdateVersion>);

/// An object read by ranges, in blocks that are cached.
#[derive(Debug)]
pub(crate) struct RemoteFile {
    location: Location,
    len: u64,
    version: ObjectVersion,
}

impl RemoteFile {
    fn new(location: Location, found: &ObjectMeta) -> Self {
        let Bucket { scheme, name, .. } = &*location.bucket;
        let url = format!("{scheme}://{name}/{}", location.key);
        let changed = match (&found.version, &found.e_tag) {
            (Some(version), _) => version.clone(),
            (None, Some(e_tag)) => e_tag.clone(),
            (None, None) => found.last_modified.to_rfc3339(),
        };
        Self {
            version: ObjectVersion::new(&url, &changed, found.size),
            len: found.size,
            location,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads exactly `num` bytes.
    pub(super) fn bytes(&self, position: u64, num: usize) -> io::Result<Bytes> {
        let end = position
            .checked_add(num as u64)
            .filter(|&end| end <= self.len)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if num == 0 {
            return Ok(Bytes::new());
        }
        if num > MAX_CACHED_READ_BYTES {
            let range = position..end;
            let read = async |store: &dyn ObjectStore, key: &Key| store.get_range(key, range.clone()).await;
            return whole(&self.location.request(read)?, num);
        }
        let blocks = position / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES);
        let begin = blocks.start * BLOCK_BYTES;
        let blocks = self.blocks(blocks)?;
        let from = (position - begin) as usize;
        match &blocks[..] {
            [block] => Ok(block.slice(from..from + num)),
            blocks => Ok(Bytes::from(blocks.concat()).slice(from..from + num)),
        }
    }

    /// Brings these ranges into the cache with as few requests as make sense, all at a time.
    pub(super) fn prefetch(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        let mut missing: Vec<u64> = ranges
            .iter()
            .filter(|range| range.start < range.end && range.end <= self.len)
            .flat_map(|range| range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES))
            .collect();
        missing.sort_unstable();
        missing.dedup();
        missing.retain(|&block| {
            BlockCache::shared()
                .get(&self.version, block, self.block_len(block))
                .is_none()
        });
        self.fetch(&missing).map(drop)
    }

    /// Consecutive blocks, from the cache or the store.
    fn blocks(&self, blocks: Range<u64>) -> io::Result<Vec<Bytes>> {
        let cached = |block| BlockCache::shared().get(&self.version, block, self.block_len(block));
        let mut found: Vec<Option<Bytes>> = blocks.clone().map(cached).collect();
        let missing: Vec<u64> = blocks
            .clone()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(block, _)| block)
            .collect();
        for (block, bytes) in missing.iter().zip(self.fetch(&missing)?) {
            found[(block - blocks.start) as usize] = Some(bytes);
        }
        Ok(found
            .into_iter()
            .map(|block| block.expect("what was missing was fetched"))
            .collect())
    }

    /// Blocks from the store, which are then cached.
    fn fetch(&self, blocks: &[u64]) -> io::Result<Vec<Bytes>> {
        if blocks.is_empty() {
            return Ok(Vec::new());
        }
        let ranges: Vec<Range<u64>> = blocks
            .iter()
            .map(|block| block * BLOCK_BYTES..((block + 1) * BLOCK_BYTES).min(self.len))
            .collect();
        let fetched = self.location.request(async |store, key| {
            coalesce_ranges(&ranges, |range| store.get_range(key, range), MAX_GAP_BYTES).await
        })?;
        let whole = |(&block, bytes)| {
            let bytes = whole(&bytes, self.block_len(block))?;
            BlockCache::shared().put(&self.version, block, &bytes);
            Ok(bytes)
        };
        blocks.iter().zip(fetched).map(whole).collect()
    }

    /// The last block may be shorter.
    fn block_len(&self, block: u64) -> usize {
        (self.len - block * BLOCK_BYTES).min(BLOCK_BYTES) as usize
    }
}

/// Refuses an answer that is shorter than what was asked for.
fn whole(bytes: &Bytes, num: usize) -> io::Result<Bytes> {
    if bytes.len() < num {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes.slice(..num))
}

/// An object being uploaded.
#[derive(Debug)]
pub(super) struct Upload {
    location: Location,
    /// Bytes not sent yet.
    buffer: Vec<u8>,
    sent_bytes: u64,
    /// Parts sent, once it is a multipart upload.
    parts: Option<(MultipartId, Vec<PartId>)>,
    /// Object that holds the upload id: one for each upload, since others may write the same object.
    marker: Location,
}

impl Upload {
    fn new(location: Location) -> Self {
        Self {
            marker: Location {
                bucket: Arc::clone(&location.bucket),
                key: Key::from(format!("{}{}", location.key, attempt_suffix())),
            },
            location,
            buffer: Vec::new(),
            sent_bytes: 0,
            parts: None,
        }
    }

    fn send_part(&mut self) -> io::Result<()> {
        let location = self.location.clone();
        let uploads = location.uploads()?;
        if self.parts.is_none() {
            let upload = location.request(async |_, key| uploads.create_multipart(key).await)?;
            self.parts = Some((upload.clone(), Vec::new()));
            self.marker.put(upload.as_bytes())?;
        }
        let (upload, parts) = self.parts.as_mut().expect("the upload was just begun");
        let part = PutPayload::from_bytes(std::mem::take(&mut self.buffer).into());
        let num_bytes = part.content_length() as u64;
        let part = location
            .request(async |_, key| uploads.put_part(key, upload, parts.len(), part.clone()).await)?;
        parts.push(part);
        self.sent_bytes += num_bytes;
        Ok(())
    }

    /// Sends the rest and makes the object visible.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if self.parts.is_none() {
            return self.location.put_bytes(std::mem::take(&mut self.buffer).into());
        }
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        let (upload, parts) = self.parts.as_ref().expect("it is a long file");
        let uploads = self.location.uploads()?;
        let completed = self
            .location
            .request(async |_, key| uploads.complete_multipart(key, upload, parts.clone()).await);
        if let Err(e) = completed {
            // If only the response was lost, the upload is gone and the object exists.
            let is_there = self
                .location
                .open()
                .is_ok_and(|file| file.len() == self.sent_bytes);
            if !is_there {
                return Err(e);
            }
        }
        self.parts = None;
        ignore_missing(self.marker.request(async |store, key| store.delete(key).await))
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let num = bytes.len().min(PART_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..num]);
        if self.buffer.len() == PART_BYTES {
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
            // If this fails, the next build finds the marker.
            let _ = self.marker.remove();
        }
    }
}
