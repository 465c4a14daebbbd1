//! Published 2D networks by name: weights that the publishers' own tools have downloaded before. Nothing is downloaded here.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::TrainError;

/// A network that a name stands for.
#[derive(Debug)]
struct Published {
    name: &'static str,
    /// Its file where PyTorch's hub and the package `clip` keep theirs.
    file: &'static str,
    /// Its repository at Hugging Face, if it is there under names that are read here.
    repository: Option<&'static str>,
    /// Where the publisher has the file.
    url: &'static str,
}

const PUBLISHED: [Published; 7] = [
    Published {
        name: "clip-vit-b16",
        file: "ViT-B-16.pt",
        repository: Some("openai/clip-vit-base-patch16"),
        url: "https://openaipublic.azureedge.net/clip/models/5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt",
    },
    Published {
        name: "clip-vit-b32",
        file: "ViT-B-32.pt",
        repository: Some("openai/clip-vit-base-patch32"),
        url: "https://openaipublic.azureedge.net/clip/models/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
    },
    Published {
        name: "clip-rn50",
        file: "RN50.pt",
        repository: None,
        url: "https://openaipublic.azureedge.net/clip/models/afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
    },
    Published {
        name: "dino-small",
        file: "dino_deitsmall16_pretrain.pth",
        repository: Some("facebook/dino-vits16"),
        url: "https://dl.fbaipublicfiles.com/dino/dino_deitsmall16_pretrain/dino_deitsmall16_pretrain.pth",
    },
    Published {
        name: "dino-base",
        file: "dino_vitbase16_pretrain.pth",
        repository: Some("facebook/dino-vitb16"),
        url: "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    },
    Published {
        name: "dino2-small",
        file: "dinov2_vits14_pretrain.pth",
        repository: Some("facebook/dinov2-small"),
        url: "https://dl.fbaipublicfiles.com/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth",
    },
    Published {
        name: "dino2-base",
        file: "dinov2_vitb14_pretrain.pth",
        repository: Some("facebook/dinov2-base"),
        url: "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
    },
];

/// The names that stand for a network.
#[must_use]
pub fn names() -> [&'static str; PUBLISHED.len()] {
    PUBLISHED.map(|network| network.name)
}

/// The file of weights that is meant: `model` itself, or, where there is no such file and it is a name, the file that the
/// publisher's tools have left in the user's cache folders.
///
/// # Errors
/// Where it is a name and no such file is there: where it was looked for and where one obtains it.
pub fn weights_file(model: &Path) -> Result<PathBuf, TrainError> {
    let named = |network: &&Published| model.as_os_str() == network.name;
    match PUBLISHED.iter().find(named) {
        Some(network) if !model.exists() => Caches::of_user().find(network),
        _ => Ok(model.to_owned()),
    }
}

/// Folders of downloaded weights.
#[derive(Debug)]
struct Caches {
    /// Of files.
    files: Vec<PathBuf>,
    /// Of repositories, as `huggingface_hub` lays them out.
    repositories: PathBuf,
}

impl Caches {
    fn of_user() -> Self {
        let folder = |name: &str| {
            env::var_os(name)
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let home = folder("HOME").unwrap_or_default().join(".cache");
        let cache = folder("XDG_CACHE_HOME").unwrap_or_else(|| home.clone());
        let torch = folder("TORCH_HOME").unwrap_or_else(|| cache.join("torch"));
        let hugging_face = folder("HF_HOME").unwrap_or_else(|| cache.join("huggingface"));
        Self {
            files: vec![torch.join("hub").join("checkpoints"), home.join("clip")],
            repositories: folder("HF_HUB_CACHE").unwrap_or_else(|| hugging_face.join("hub")),
        }
    }

    fn find(&self, network: &Published) -> Result<PathBuf, TrainError> {
        let in_files = self.files.iter().map(|folder| folder.join(network.file));
        let repository = self.repository(network);
        let mut candidates = in_files.chain(repository.as_deref().and_then(current_snapshot));
        let found = candidates.find(|path| path.is_file());
        found.ok_or_else(|| TrainError::NotDownloaded {
            name: network.name,
            folders: self.files.iter().cloned().chain(repository).collect(),
            url: network.url,
        })
    }

    fn repository(&self, network: &Published) -> Option<PathBuf> {
        let folder = format!("models--{}", network.repository?.replace('/', "--"));
        Some(self.repositories.join(folder))
    }
}

/// The weights of a repository's newest download.
fn current_snapshot(repository: &Path) -> Option<PathBuf> {
    let revision = fs::read_to_string(repository.join("refs").join("main")).ok()?;
    let is_plain = revision
        .trim()
        .chars()
        .all(|letter| letter.is_ascii_alphanumeric());
    let snapshot = repository.join("snapshots").join(revision.trim());
    is_plain.then(|| snapshot.join("model.safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(name: &str) -> &'static Published {
        PUBLISHED
            .iter()
            .find(|network| network.name == name)
            .expect("it is in the list")
    }

    #[test]
    fn a_name_is_found_where_the_publishers_tools_download_to() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let caches = Caches {
            files: vec![dir.path().join("checkpoints"), dir.path().join("clip")],
            repositories: dir.path().join("hub"),
        };
        let clip = published("clip-vit-b16");
        let missing = caches.find(clip).expect_err("nothing is there").to_string();
        assert!(
            missing.contains("clip-vit-b16") && missing.contains(clip.url),
            "{missing}"
        );

        let repository = caches.repository(clip).expect("it has one");
        let snapshot = repository.join("snapshots").join("abc123");
        fs::create_dir_all(&snapshot).expect("a folder");
        fs::write(snapshot.join("model.safetensors"), "").expect("a file");
        assert!(caches.find(clip).is_err(), "no revision is the current one");
        fs::create_dir_all(repository.join("refs")).expect("a folder");
        fs::write(repository.join("refs").join("main"), "abc123").expect("a file");
        assert_eq!(
            caches.find(clip).expect("it is there"),
            snapshot.join("model.safetensors")
        );

        fs::create_dir(dir.path().join("clip")).expect("a folder");
        fs::write(dir.path().join("clip").join(clip.file), "").expect("a file");
        assert_eq!(
            caches.find(clip).expect("it is there"),
            dir.path().join("clip").join(clip.file)
        );
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        let path = Path::new("somewhere/ViT-B-16.pt");
        assert_eq!(weights_file(path).expect("no name"), path);
    }
}
