//! Categories: name, possible parts, and generator function. Those here are the family `basic`; `varied` has its own.
//!
//! Categories overlap in their overall proportions on purpose (a bench is as long as a sofa, a cabinet as
//! tall as a bookshelf, a jug has a handle like a mug), so that parts are needed to tell them apart.

mod airplane;
mod device;
mod furniture;
mod light;
mod seat;
mod varied;
mod vehicle;
mod vessel;

use super::object::Object;
use crate::seeded_rng::SeededRng;
pub(super) use varied::VARIED;

/// A category.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Category {
    /// `ShapeNetCore` synset, or a number beyond all of them.
    pub(crate) synset: &'static str,
    pub(crate) name: &'static str,
    /// All parts that its objects may have.
    pub(crate) parts: &'static [&'static str],
    pub(crate) build: fn(&mut SeededRng) -> Object,
}

/// Ordered so that the first few are already varied.
pub(super) const BASIC: [Category; 16] = [
    Category {
        synset: "03001627",
        name: "chair",
        parts: &["arm", "back", "leg", "seat"],
        build: seat::chair,
    },
    Category {
        synset: "04379243",
        name: "table",
        parts: &["drawer", "leg", "shelf", "top"],
        build: furniture::table,
    },
    Category {
        synset: "03636649",
        name: "lamp",
        parts: &["base", "bulb", "pole", "shade"],
        build: light::lamp,
    },
    Category {
        synset: "03797390",
        name: "mug",
        parts: &["body", "handle", "saucer"],
        build: vessel::mug,
    },
    Category {
        synset: "02691156",
        name: "airplane",
        parts: &["body", "engine", "tail", "wing"],
        build: airplane::airplane,
    },
    Category {
        synset: "02958343",
        name: "car",
        parts: &["body", "bumper", "cabin", "wheel"],
        build: vehicle::car,
    },
    Category {
        synset: "02871439",
        name: "bookshelf",
        parts: &["back", "book", "shelf", "side"],
        build: furniture::bookshelf,
    },
    Category {
        synset: "04256520",
        name: "sofa",
        parts: &["arm", "back", "foot", "seat"],
        build: seat::sofa,
    },
    Category {
        synset: "02876657",
        name: "bottle",
        parts: &["body", "cap", "handle", "label"],
        build: vessel::bottle,
    },
    Category {
        synset: "02818832",
        name: "bed",
        parts: &["frame", "headboard", "leg", "mattress", "pillow"],
        build: furniture::bed,
    },
    Category {
        synset: "03467517",
        name: "guitar",
        parts: &["body", "bridge", "head", "neck", "peg"],
        build: device::guitar,
    },
    Category {
        synset: "04099429",
        name: "rocket",
        parts: &["body", "booster", "fin", "nozzle"],
        build: vehicle::rocket,
    },
    Category {
        synset: "03261776",
        name: "earphone",
        parts: &["band", "cup", "cushion", "microphone"],
        build: device::earphone,
    },
    Category {
        synset: "03642806",
        name: "laptop",
        parts: &["base", "hinge", "key", "screen"],
        build: device::laptop,
    },
    Category {
        synset: "02933112",
        name: "cabinet",
        parts: &["body", "door", "drawer", "foot", "handle"],
        build: furniture::cabinet,
    },
    Category {
        synset: "02828884",
        name: "bench",
        parts: &["arm", "back", "leg", "seat"],
        build: seat::bench,
    },
];
