//! The family `varied`: six bodies, each shared by four categories that differ in their parts alone.
//!
//! A body's proportions vary more within a category than between those of one body, and what is on it at random (lids, shelves,
//! collars, trays) is drawn alike for all four. So a histogram of distances says which body it is at best, and the parts
//! have to be seen to tell the category.

mod cart;
mod case;
mod fuselage;
mod pole;
mod pot;
mod slab;

use super::{Category, Object};

/// Ordered so that the first few already have both: other bodies, and other parts on one body. Their folders are numbered beyond
/// all offsets of `WordNet`, since some have none of their own.
pub(in crate::synthesize) const VARIED: [Category; 24] = [
    Category {
        synset: "90000001",
        name: "mug",
        parts: &["body", "handle", "lid"],
        build: pot::mug,
    },
    Category {
        synset: "90000002",
        name: "urn",
        parts: &["body", "handle", "lid"],
        build: pot::urn,
    },
    Category {
        synset: "90000003",
        name: "chair",
        parts: &["back", "cushion", "leg", "seat", "shelf"],
        build: slab::chair,
    },
    Category {
        synset: "90000004",
        name: "table",
        parts: &["cushion", "leg", "seat", "shelf"],
        build: slab::table,
    },
    Category {
        synset: "90000005",
        name: "cabinet",
        parts: &["body", "door", "foot", "handle", "item"],
        build: case::cabinet,
    },
    Category {
        synset: "90000006",
        name: "dresser",
        parts: &["body", "drawer", "foot", "handle", "item"],
        build: case::dresser,
    },
    Category {
        synset: "90000007",
        name: "lamp",
        parts: &["base", "bulb", "pole", "shade", "tray"],
        build: pole::lamp,
    },
    Category {
        synset: "90000008",
        name: "coatrack",
        parts: &["base", "hook", "pole", "tray"],
        build: pole::coatrack,
    },
    Category {
        synset: "90000009",
        name: "airplane",
        parts: &["body", "canopy", "pod", "tail", "wing"],
        build: fuselage::airplane,
    },
    Category {
        synset: "90000010",
        name: "helicopter",
        parts: &["body", "canopy", "pod", "rotor", "skid", "tail"],
        build: fuselage::helicopter,
    },
    Category {
        synset: "90000011",
        name: "car",
        parts: &["cabin", "chassis", "rack", "wheel"],
        build: cart::car,
    },
    Category {
        synset: "90000012",
        name: "truck",
        parts: &["box", "cabin", "chassis", "rack", "wheel"],
        build: cart::truck,
    },
    Category {
        synset: "90000013",
        name: "kettle",
        parts: &["body", "handle", "lid", "spout"],
        build: pot::kettle,
    },
    Category {
        synset: "90000014",
        name: "teapot",
        parts: &["body", "handle", "lid", "spout"],
        build: pot::teapot,
    },
    Category {
        synset: "90000015",
        name: "armchair",
        parts: &["arm", "back", "cushion", "leg", "seat", "shelf"],
        build: slab::armchair,
    },
    Category {
        synset: "90000016",
        name: "desk",
        parts: &["cushion", "drawer", "leg", "seat", "shelf"],
        build: slab::desk,
    },
    Category {
        synset: "90000017",
        name: "bookshelf",
        parts: &["body", "book", "foot", "item", "shelf"],
        build: case::bookshelf,
    },
    Category {
        synset: "90000018",
        name: "stove",
        parts: &["body", "burner", "door", "foot", "handle", "item"],
        build: case::stove,
    },
    Category {
        synset: "90000019",
        name: "fan",
        parts: &["base", "blade", "guard", "pole", "tray"],
        build: pole::fan,
    },
    Category {
        synset: "90000020",
        name: "signpost",
        parts: &["base", "board", "pole", "tray"],
        build: pole::signpost,
    },
    Category {
        synset: "90000021",
        name: "submarine",
        parts: &["body", "canopy", "fin", "pod", "propeller", "tower"],
        build: fuselage::submarine,
    },
    Category {
        synset: "90000022",
        name: "rocket",
        parts: &["body", "canopy", "fin", "nozzle", "pod"],
        build: fuselage::rocket,
    },
    Category {
        synset: "90000023",
        name: "wagon",
        parts: &["chassis", "handle", "rack", "side", "wheel"],
        build: cart::wagon,
    },
    Category {
        synset: "90000024",
        name: "tank",
        parts: &["barrel", "chassis", "rack", "turret", "wheel"],
        build: cart::tank,
    },
];
