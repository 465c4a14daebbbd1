//! [`ShapeFamily`]: which categories there are, and [`ShapeGenerator`]: one object of them.

use glam::{DAffine3, DVec3};

use super::category::{BASIC, Category, VARIED};
use super::object::Object;
use super::rng::object_rng;
use crate::error::NameError;
use crate::seeded_rng::SeededRng;

/// One in this many objects is in the test split.
pub(crate) const OBJECTS_PER_TEST_OBJECT: usize = 5;

/// A family of categories.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, strum::Display, strum::EnumString, strum::VariantNames,
)]
#[strum(serialize_all = "lowercase", parse_err_ty = NameError, parse_err_fn = unknown_family)]
pub enum ShapeFamily {
    /// 16 everyday categories, each with proportions of its own.
    #[default]
    Basic,
    /// 24 categories: six bodies of strongly varying proportions, each with four choices of parts.
    Varied,
}

fn unknown_family(text: &str) -> NameError {
    use strum::VariantNames as _;
    NameError::ShapeFamily {
        text: text.to_owned(),
        expected: ShapeFamily::VARIANTS.join(", "),
    }
}

impl ShapeFamily {
    pub(crate) fn categories(self) -> &'static [Category] {
        match self {
            Self::Basic => &BASIC,
            Self::Varied => &VARIED,
        }
    }

    /// Names, in the order in which categories are taken.
    #[must_use]
    pub fn category_names(self) -> Vec<&'static str> {
        self.categories().iter().map(|category| category.name).collect()
    }

    /// Each axis is scaled by up to this factor, so that proportions alone reveal little.
    const fn max_stretch(self) -> f64 {
        match self {
            Self::Basic => 1.2,
            Self::Varied => 1.45,
        }
    }
}

/// Makes objects: each is a function of these settings, its category and its number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShapeGenerator {
    pub(crate) family: ShapeFamily,
    /// Of two purposes no object is the same.
    pub(crate) purpose: &'static str,
    pub(crate) seed: u64,
    /// Turn each object about the up axis.
    pub(crate) random_yaw: bool,
}

impl ShapeGenerator {
    /// What the random numbers of a category follow from.
    fn key(&self, category: &Category) -> String {
        let family = match self.family {
            ShapeFamily::Basic => "",
            ShapeFamily::Varied => "varied ",
        };
        format!("{}{family}{}", self.purpose, category.name)
    }

    /// An object in a bounding box that is centered and has a diagonal of 1, and random numbers to go on with.
    pub(crate) fn object(&self, category: &Category, index: usize) -> (Object, SeededRng) {
        let mut rng = object_rng(self.seed, &self.key(category), index);
        let mut object = (category.build)(&mut rng);
        let stretch = self.family.max_stretch();
        object.transform(DAffine3::from_scale(DVec3::from_array(
            [(); 3].map(|()| rng.log_uniform(stretch)),
        )));
        let yaw = rng.uniform(0.0, std::f64::consts::TAU);
        if self.random_yaw {
            object.transform(DAffine3::from_rotation_y(yaw));
        }
        object.normalize();
        (object, rng)
    }

    /// Random fifth of a category's objects for the test split.
    pub(crate) fn test_objects(&self, category: &Category, per_class: usize) -> Vec<bool> {
        let mut rng = object_rng(self.seed, &format!("split of {}", self.key(category)), 0);
        let mut order: Vec<usize> = (0..per_class).collect();
        for last in (1..per_class).rev() {
            order.swap(last, rng.uniform_int(0, last));
        }
        let mut is_test = vec![false; per_class];
        for &index in &order[..per_class / OBJECTS_PER_TEST_OBJECT] {
            is_test[index] = true;
        }
        is_test
    }
}
