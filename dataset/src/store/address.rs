//! Addresses: which paths name a place in an object store, and which place.

use std::path::Path;

/// The scheme, and the kind of store.
const SCHEMES: [&str; 3] = ["s3", "gs", "az"];

/// `scheme://bucket/key`, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address<'a> {
    pub(super) scheme: &'static str,
    pub(super) bucket: &'a str,
    /// Without slashes at its ends; empty for the whole bucket.
    pub(super) key: &'a str,
}

/// Does the path name a place in an object store?
pub(crate) fn is_address(path: &Path) -> bool {
    parse(path).is_some()
}

/// The parts of an address; `None` for a path of this machine.
pub(super) fn parse(path: &Path) -> Option<Address<'_>> {
    let (scheme, place) = path.to_str()?.split_once("://")?;
    let scheme = SCHEMES.into_iter().find(|known| *known == scheme)?;
    let (bucket, key) = place.split_once('/').unwrap_or((place, ""));
    Some(Address {
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
    fn addresses_are_told_from_paths() {
        let parts = |text: &str| {
            let path = Path::new(text).join("manifest.json");
            let Address { scheme, bucket, key } = parse(&path)?;
            Some([scheme, bucket, key].map(str::to_owned))
        };
        assert_eq!(parts("s3://b/a/c").unwrap(), ["s3", "b", "a/c/manifest.json"]);
        assert_eq!(parts("gs://b").unwrap(), ["gs", "b", "manifest.json"]);
        assert_eq!(parts("az://b/").unwrap(), ["az", "b", "manifest.json"]);
        for path in ["shards", "/s3/b", "s3:/b", "./s3://b", "http://b/a"] {
            assert_eq!(parts(path), None, "{path}");
        }
    }
}
