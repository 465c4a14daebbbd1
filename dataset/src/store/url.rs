//! Recognizes and parses object store URLs.

use std::path::Path;

/// S3, Google Cloud Storage and Azure; web servers.
const SCHEMES: [&str; 5] = ["s3", "gs", "az", "https", "http"];

/// A parsed `scheme://bucket/key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ObjectUrl<'a> {
    pub(super) scheme: &'static str,
    pub(super) bucket: &'a str,
    /// Without leading and trailing slashes; empty for the whole bucket.
    pub(super) key: &'a str,
}

/// Whether the path is an object store URL.
pub(crate) fn is_url(path: &Path) -> bool {
    parse(path).is_some()
}

/// Whether the URL names a bucket or a server, and nothing in it.
#[cfg(feature = "build")]
pub(crate) fn is_bucket(path: &Path) -> bool {
    parse(path).is_some_and(|url| url.key.is_empty())
}

/// A URL with a user, a password or a query, as signed ones have, without them; `None` for others. What is signed is in
/// messages and lists wherever the URL is.
#[cfg(feature = "build")]
pub(crate) fn without_secret(path: &Path) -> Option<String> {
    let ObjectUrl { scheme, bucket, key } = parse(path)?;
    let (user, host) = bucket.rsplit_once('@').unwrap_or(("", bucket));
    let is_web = scheme.starts_with("http");
    let (shown, query) = match key.split_once('?') {
        Some((shown, query)) if is_web => (shown, query),
        _ => (key, ""),
    };
    (!user.is_empty() || !query.is_empty()).then(|| format!("{scheme}://{host}/{shown}"))
}

/// Parses a URL; `None` for local paths.
pub(super) fn parse(path: &Path) -> Option<ObjectUrl<'_>> {
    let (scheme, rest) = path.to_str()?.split_once("://")?;
    let scheme = SCHEMES.into_iter().find(|known| *known == scheme)?;
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    Some(ObjectUrl {
        scheme,
        bucket,
        key: key.trim_matches('/'),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn urls_are_distinguished_from_paths() {
        let parts = |text: &str| {
            let path = Path::new(text).join("manifest.json");
            let ObjectUrl { scheme, bucket, key } = parse(&path)?;
            Some([scheme, bucket, key].map(str::to_owned))
        };
        assert_eq!(parts("s3://b/a/c").unwrap(), ["s3", "b", "a/c/manifest.json"]);
        assert_eq!(parts("gs://b").unwrap(), ["gs", "b", "manifest.json"]);
        assert_eq!(parts("az://b/").unwrap(), ["az", "b", "manifest.json"]);
        assert_eq!(
            parts("https://b:80/a").unwrap(),
            ["https", "b:80", "a/manifest.json"]
        );
        for path in ["shards", "/s3/b", "s3:/b", "./s3://b", "ftp://b/a"] {
            assert_eq!(parts(path), None, "{path}");
        }
    }

    #[test]
    #[cfg(feature = "build")]
    fn a_secret_is_found_and_left_out() {
        let shown = |text: &str| without_secret(Path::new(text));
        assert_eq!(shown("https://me:key@host/a.csv").unwrap(), "https://host/a.csv");
        assert_eq!(shown("https://host/a.zip?X-Sig=1").unwrap(), "https://host/a.zip");
        assert_eq!(shown("s3://key@bucket/a").unwrap(), "s3://bucket/a");
        for plain in ["s3://bucket/what?.obj", "https://host/@a/b.obj", "a@b?c"] {
            assert_eq!(shown(plain), None, "{plain}");
        }
    }
}
