//! Held-out objects as several runs draw them: good, typical and worst ones, chosen by their loss and by nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use tap_train::run::event::TrainEvent;
use tap_train::task::inspect::{Inspector, ObjectAttention};
use tch::Device;

use super::{Group, Run};

/// Views of an object that are shown, at most; spread evenly over the rig.
const MAX_VIEWS: usize = 6;
/// Runs that are shown, at most: a page with more is too large to be sent around.
const MAX_ARTISTS: usize = 6;

/// What is drawn.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    /// Where the data lies, if it moved.
    pub(crate) data: Option<&'a Path>,
    pub(crate) device: Device,
    /// Objects of each [`Kind`].
    pub(crate) num_objects: usize,
    /// Objects that are ranked, at most; spread evenly over the split.
    pub(crate) max_ranked: usize,
}

/// What the page shows of views.
#[derive(Debug, Default)]
pub(crate) struct Drawn {
    pub(crate) galleries: Vec<Gallery>,
    /// Why runs that draw views have none here, by their names.
    pub(crate) left_out: BTreeMap<String, String>,
}

/// Objects of one split of one data set.
#[derive(Debug)]
pub(crate) struct Gallery {
    pub(crate) split: String,
    pub(crate) data_sha256: String,
    /// Whether no run was trained on them.
    pub(crate) is_held_out: bool,
    /// Objects of the split.
    pub(crate) num_objects: usize,
    /// Their mean losses over the artists, from the best to the worst.
    pub(crate) ranking: Vec<f64>,
    /// Which views are shown, from 0.
    pub(crate) views: Vec<usize>,
    /// Side of an image.
    pub(crate) size_px: usize,
    /// The runs that draw.
    pub(crate) artists: Vec<Artist>,
    pub(crate) objects: Vec<Object>,
}

/// A run that draws.
#[derive(Debug)]
pub(crate) struct Artist {
    pub(crate) name: String,
    /// What its losses depend on beside the data.
    pub(crate) seed: u64,
    pub(crate) selection: String,
}

/// How well an object is drawn, next to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    Typical,
    Worst,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Typical => "typical",
            Self::Worst => "worst",
        }
    }
}

/// An object.
#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    /// Place in the ranking, from 0.
    pub(crate) place: usize,
    pub(crate) id: String,
    /// PNGs of its views.
    pub(crate) truth: Vec<Vec<u8>>,
    /// One an artist.
    pub(crate) drawings: Vec<Drawing>,
}

/// An object by one run.
#[derive(Debug)]
pub(crate) struct Drawing {
    pub(crate) loss: f64,
    /// PNGs of its views.
    pub(crate) images: Vec<Vec<u8>>,
    /// Of the first object of each kind; none where no query attends to tokens.
    pub(crate) attention: Option<ObjectAttention>,
}

/// What makes losses of runs comparable: the same objects, in the same pictures.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shared {
    data_sha256: String,
    split: String,
    rows: Vec<String>,
    images: String,
    is_color: bool,
    size_px: usize,
}

impl Shared {
    fn of(inspector: &Inspector) -> Self {
        let data = &inspector.plan.data;
        Self {
            data_sha256: inspector.plan.data_sha256.clone(),
            split: data.evaluation_split.to_string(),
            rows: inspector.ids().iter().map(ToString::to_string).collect(),
            images: data.images.clone(),
            is_color: data.color,
            size_px: inspector.image_size_px(),
        }
    }
}

/// Draws objects by the first run of each group that draws views.
///
/// # Errors
/// Where `wanted.data` is of no use to any run, or a row cannot be read a second time.
pub(crate) fn draw(groups: &[Group<'_>], wanted: &Wanted<'_>, note: &mut dyn FnMut(&str)) -> Result<Drawn> {
    let mut drawn = Drawn::default();
    let mut by_shared: BTreeMap<Shared, Vec<(&Run, Inspector)>> = BTreeMap::new();
    let mut num_artists = 0;
    for group in groups {
        for (run, inspector) in first_that_draws(group, wanted, note) {
            match inspector {
                Ok(inspector) if num_artists < MAX_ARTISTS => {
                    num_artists += 1;
                    let shared = Shared::of(&inspector);
                    by_shared.entry(shared).or_default().push((run, inspector));
                }
                Ok(_) => {
                    let reason = format!("views of {MAX_ARTISTS} runs are shown, and this is a further one");
                    drawn.left_out.insert(run.name.clone(), reason);
                }
                Err(reason) => {
                    drawn.left_out.insert(run.name.clone(), reason);
                }
            }
        }
    }
    if let (true, true, Some(reason)) = (
        by_shared.is_empty(),
        wanted.data.is_some(),
        drawn.left_out.values().next(),
    ) {
        bail!("--data: no views can be drawn: {reason}");
    }
    for (shared, artists) in by_shared {
        note(&format!(
            "drawing objects of split {} by {}",
            shared.split,
            names(&artists)
        ));
        drawn.galleries.push(gallery(shared, artists, wanted)?);
    }
    for (name, reason) in &drawn.left_out {
        note(&format!("{name}: its views are left out: {reason}"));
    }
    Ok(drawn)
}

fn names(artists: &[(&Run, Inspector)]) -> String {
    let names: Vec<&str> = artists.iter().map(|(run, _)| run.name.as_str()).collect();
    names.join(", ")
}

/// The first run of a group that can draw, and those before it that should but cannot, with the reason.
fn first_that_draws<'a>(
    group: &Group<'a>,
    wanted: &Wanted<'_>,
    note: &mut dyn FnMut(&str),
) -> Vec<(&'a Run, Result<Inspector, String>)> {
    let mut opened = Vec::new();
    for run in &group.runs {
        let inspector = Inspector::open(&run.path, wanted.data, wanted.device, &mut |event| {
            if let TrainEvent::Note(text) = event {
                note(&format!("{}: {text}", run.name));
            }
        });
        match inspector {
            Ok(None) => break,
            Ok(Some(inspector)) => {
                opened.push((*run, Ok(inspector)));
                break;
            }
            Err(error) => {
                let error = anyhow::Error::new(error);
                opened.push((*run, Err(format!("{error:#}"))));
            }
        }
    }
    opened
}

fn gallery(shared: Shared, artists: Vec<(&Run, Inspector)>, wanted: &Wanted<'_>) -> Result<Gallery> {
    let rows = spread(shared.rows.len(), wanted.max_ranked);
    let losses = artists
        .iter()
        .map(|(_, artist)| artist.losses(&rows))
        .collect::<Result<Vec<Vec<f64>>, _>>()?;
    let mean = |place: usize| losses.iter().map(|of| of[place]).sum::<f64>() / losses.len() as f64;
    // Places in `rows`, by mean loss; equal ones in the order of the data set.
    let mut ranked: Vec<(usize, f64)> = (0..rows.len()).map(|place| (place, mean(place))).collect();
    ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
    let num_views = artists.first().map_or(0, |(_, artist)| artist.num_views());
    let views = spread(num_views, MAX_VIEWS);
    let mut objects: Vec<Object> = Vec::new();
    for (kind, place) in chosen_places(ranked.len(), wanted.num_objects) {
        let place_in_rows = ranked[place].0;
        let row = rows[place_in_rows];
        let is_first = objects.last().is_none_or(|last| last.kind != kind);
        let (mut truth, mut drawings) = (Vec::new(), Vec::new());
        for ((_, artist), losses) in artists.iter().zip(&losses) {
            let of_artist = artist.views(row, &views)?;
            truth = of_artist.truth;
            drawings.push(Drawing {
                loss: losses[place_in_rows],
                images: of_artist.generated,
                attention: if is_first {
                    artist.attention(row, &views)?
                } else {
                    None
                },
            });
        }
        objects.push(Object {
            kind,
            place,
            id: shared.rows[row].clone(),
            truth,
            drawings,
        });
    }
    Ok(Gallery {
        is_held_out: artists.iter().all(|(_, artist)| artist.is_held_out()),
        num_objects: shared.rows.len(),
        ranking: ranked.into_iter().map(|(_, loss)| loss).collect(),
        views,
        size_px: shared.size_px,
        artists: artists
            .into_iter()
            .map(|(run, artist)| Artist {
                name: run.name.clone(),
                seed: artist.plan.seed,
                selection: artist.selection,
            })
            .collect(),
        objects,
        split: shared.split,
        data_sha256: shared.data_sha256,
    })
}

/// At most `limit` of `count` places, evenly spread.
fn spread(count: usize, limit: usize) -> Vec<usize> {
    let shown = count.min(limit);
    (0..shown).map(|place| place * count / shown).collect()
}

/// The places in a ranking that are shown: the first ones, those around the median, and the last ones from the very last
/// on. No place comes twice.
fn chosen_places(count: usize, per_kind: usize) -> Vec<(Kind, usize)> {
    if per_kind == 0 || count == 0 {
        return Vec::new();
    }
    let num = per_kind.min(count / 3).max(1);
    let median = (count - 1) / 2;
    let start = median - (num - 1) / 2;
    let good = (0..num).map(|place| (Kind::Good, place));
    let typical = (start..start + num).map(|place| (Kind::Typical, place));
    let worst = (count - num..count).rev().map(|place| (Kind::Worst, place));
    match count {
        1 => vec![(Kind::Typical, 0)],
        2 => vec![(Kind::Good, 0), (Kind::Worst, 1)],
        _ => good.chain(typical).chain(worst).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_chosen_by_their_place_alone_and_none_twice() {
        use Kind::{Good, Typical, Worst};
        assert_eq!(
            chosen_places(100, 2),
            [
                (Good, 0),
                (Good, 1),
                (Typical, 49),
                (Typical, 50),
                (Worst, 99),
                (Worst, 98)
            ]
        );
        assert_eq!(chosen_places(5, 2), [(Good, 0), (Typical, 2), (Worst, 4)]);
        assert_eq!(chosen_places(2, 3), [(Good, 0), (Worst, 1)]);
        assert_eq!(chosen_places(1, 3), [(Typical, 0)]);
        assert_eq!((chosen_places(0, 3), chosen_places(9, 0)), (vec![], vec![]));
        for (count, per_kind) in (3..40).flat_map(|count| (1..9).map(move |per_kind| (count, per_kind))) {
            let mut places: Vec<usize> = chosen_places(count, per_kind)
                .into_iter()
                .map(|(_, place)| place)
                .collect();
            let num = places.len();
            places.sort_unstable();
            places.dedup();
            assert_eq!(places.len(), num, "{count} objects, {per_kind} a kind");
            assert_eq!(
                num,
                3 * per_kind.min(count / 3),
                "{count} objects, {per_kind} a kind"
            );
        }
    }

    #[test]
    fn what_is_spread_begins_at_the_first() {
        assert_eq!(spread(12, 6), [0, 2, 4, 6, 8, 10]);
        assert_eq!(spread(4, 6), [0, 1, 2, 3]);
        assert_eq!(spread(0, 6), [0_usize; 0]);
    }
}
