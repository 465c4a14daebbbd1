//! [`Projection`]: which columns and views of a row are read.

use std::collections::BTreeSet;

use super::ViewSelection;
use crate::error::{DatasetError, Result, StreamError};
use crate::schema::ColumnSet;
use crate::schema::column::{self, COLUMNS};

/// Which columns and views of a row are read: all columns but the G-buffer, unless told otherwise. What is left out takes no
/// time, and is 0, empty or `None` in the [`Sample`].
///
/// [`Sample`]: crate::Sample
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Projection {
    /// Columns that were chosen by name.
    named: Option<BTreeSet<&'static str>>,
    /// Views that were chosen by number.
    views: Option<Vec<usize>>,
    /// Whether the G-buffer is read without being named.
    has_gbuffer: bool,
}

impl Projection {
    /// These columns, by name; the id is always read.
    ///
    /// # Errors
    /// When there is no column of a name.
    pub fn of_columns<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let known = |name: S| {
            let found = column::find(name.as_ref()).map(|column| column.name);
            found.ok_or_else(|| {
                DatasetError::Stream(StreamError::UnknownColumn {
                    name: name.as_ref().to_owned(),
                    columns: COLUMNS.map(|column| column.name).join(", "),
                })
            })
        };
        Ok(Self {
            named: Some(names.into_iter().map(known).collect::<Result<_>>()?),
            ..Self::default()
        })
    }

    /// All columns that a selection of views leaves.
    #[must_use]
    pub fn of_views(views: ViewSelection<'_>) -> Self {
        let all = Self::default();
        match views {
            ViewSelection::None => all.with_views([]),
            ViewSelection::Some(views) => all.with_views(views),
            ViewSelection::All => all,
            ViewSelection::WithGbuffer => Self {
                has_gbuffer: true,
                ..all
            },
        }
    }

    /// Of the views only these, in this order; without any, columns of views are not read.
    #[must_use]
    pub fn with_views(self, views: impl Into<Vec<usize>>) -> Self {
        let views = Some(views.into());
        Self { views, ..self }
    }

    /// The columns that were chosen by name.
    pub(crate) fn named(&self) -> Option<&BTreeSet<&'static str>> {
        self.named.as_ref()
    }

    /// The views that were chosen by number.
    pub(crate) fn views(&self) -> Option<&[usize]> {
        self.views.as_deref()
    }

    /// Whether a column is read.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let Some(column) = column::find(name) else {
            return false;
        };
        let is_chosen = match &self.named {
            Some(named) => {
                // The statistics of a mesh are one value.
                let is_mesh =
                    |name: &&str| column::find(name).is_some_and(|other| other.set == ColumnSet::Mesh);
                let is_part = column.set == ColumnSet::Mesh && named.iter().any(is_mesh);
                name == column::ID || named.contains(name) || is_part
            }
            None => self.has_gbuffer || !column.is_gbuffer(),
        };
        is_chosen && !(column.is_per_view() && self.views.as_deref().is_some_and(<[usize]>::is_empty))
    }
}
