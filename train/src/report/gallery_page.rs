//! Views and attention as HTML.

use std::fmt::Write as _;

use tap_cli::page::{base64, embedded_json, escape};
use tap_dataset::sha256;

use super::Drawn;
use super::attention::Inspected;
use super::gallery::{Gallery, Object};
use super::page::decimal;

/// Makes the inspectors work.
pub(super) const SCRIPT: &str = include_str!("inspector.js");
/// Images up to this side are shown with their pixels as squares.
const SMALL_PX: usize = 96;

/// The galleries, and why runs are not in one.
pub(super) fn views(drawn: &Drawn) -> String {
    let mut html = String::new();
    for (gallery_idx, gallery) in drawn.galleries.iter().enumerate() {
        html.push_str(&provenance(gallery));
        for (object_idx, object) in gallery.objects.iter().enumerate() {
            html.push_str(&card(gallery_idx, gallery, object_idx, object));
        }
    }
    if !drawn.left_out.is_empty() {
        html.push_str("<ul class='faint'>");
        for (name, reason) in &drawn.left_out {
            let _ = write!(html, "<li>{} is left out: {}</li>", escape(name), escape(reason));
        }
        html.push_str("</ul>");
    }
    html
}

/// How the objects were chosen, and what the numbers depend on.
fn provenance(gallery: &Gallery) -> String {
    let mut html = String::from("<p class='faint'>");
    let num_ranked = gallery.ranking.len();
    let split = escape(&gallery.split);
    if num_ranked < gallery.num_objects {
        let _ = write!(
            html,
            "{num_ranked} of the {} objects of split {split}, spread evenly over it, are ranked",
            gallery.num_objects
        );
    } else {
        let _ = write!(html, "All {num_ranked} objects of split {split} are ranked");
    }
    let several = gallery.artists.len() > 1;
    html.push_str(if several {
        " by their loss, the mean over the runs; "
    } else {
        " by their loss; "
    });
    html.push_str(
        "shown are the best, those around the median and the worst. A loss is one of all views of the object",
    );
    if let (Some(best), Some(worst)) = (gallery.ranking.first(), gallery.ranking.last()) {
        let median = gallery.ranking[(num_ranked - 1) / 2];
        let _ = write!(
            html,
            "; it goes from {} over {} in the middle to {}",
            decimal(*best),
            decimal(median),
            decimal(*worst)
        );
    }
    html.push_str(". ");
    if !gallery.is_held_out {
        let _ = write!(
            html,
            "<strong>Not held out:</strong> split {split} was trained on. "
        );
    }
    let _ = write!(
        html,
        "Data <span title='{}'>{}</span>; ",
        escape(&gallery.data_sha256),
        escape(sha256::short(&gallery.data_sha256))
    );
    let artists = gallery.artists.iter().map(|artist| {
        format!(
            "{}: seed {}, {}",
            escape(&artist.name),
            artist.seed,
            escape(&artist.selection)
        )
    });
    html.push_str(&artists.collect::<Vec<_>>().join("; "));
    html.push_str(".</p>");
    html
}

/// An object: its true views, and below them as each run draws them.
fn card(gallery_idx: usize, gallery: &Gallery, object_idx: usize, object: &Object) -> String {
    let kind = object.kind.name();
    let small = class_of_size(gallery);
    let mut html = format!(
        "<article class='object{small}' style='--views: {}'><h3><span class='kind {kind}'>{kind}</span> {} \
         <span class='faint'>{} of {}</span></h3>",
        gallery.views.len(),
        escape(&object.id),
        object.place + 1,
        gallery.ranking.len()
    );
    let mut row = |label: &str, id: &str, alt: &str, images: &[Vec<u8>]| {
        let _ = write!(html, "<div class='strip'><div class='of'>{label}</div>");
        for (view_idx, (png, view)) in images.iter().zip(&gallery.views).enumerate() {
            let _ = write!(
                html,
                "<img id='{id}v{view_idx}' alt='{} {alt}, view {}' width='{size}' height='{size}' src='data:image/png;base64,{}'>",
                escape(&object.id),
                view + 1,
                base64(png),
                size = gallery.size_px
            );
        }
        html.push_str("</div>");
    };
    row(
        "true",
        &format!("g{gallery_idx}o{object_idx}true"),
        "as it is",
        &object.truth,
    );
    for (artist_idx, (artist, drawing)) in gallery.artists.iter().zip(&object.drawings).enumerate() {
        let name = escape(&artist.name);
        row(
            &format!("{name} <span class='loss'>loss {}</span>", decimal(drawing.loss)),
            &format!("g{gallery_idx}o{object_idx}r{artist_idx}"),
            &format!("by {name}"),
            &drawing.images,
        );
    }
    html.push_str("</article>");
    html
}

fn class_of_size(gallery: &Gallery) -> &'static str {
    if gallery.size_px <= SMALL_PX { " small" } else { "" }
}

/// What the inspectors are made from; empty where no run attends to tokens.
pub(super) fn inspectors(drawn: &Drawn) -> String {
    let mut html = String::new();
    for (gallery_idx, gallery) in drawn.galleries.iter().enumerate() {
        let Some(inspected) = Inspected::of(gallery) else {
            continue;
        };
        let json = embedded_json(&inspected).expect("numbers and texts have a form in JSON");
        let small = class_of_size(gallery);
        let _ = write!(
            html,
            "<div class='inspector{small}' data-gallery='{gallery_idx}'><noscript><p class='faint'>Needs JavaScript, which is in \
             this file.</p></noscript></div><script type='application/json' id='attention{gallery_idx}'>{json}</script>"
        );
    }
    if !html.is_empty() {
        html.insert_str(
            0,
            "<p class='faint'>A patch of a generated view is drawn from one query. Choose a patch: each point takes the color of \
             its nearest token, by how much of the query's cross-attention goes to that token, the mean over heads. The same \
             objects, runs and numbers as above.</p>",
        );
    }
    html
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tap_train::task::inspect::{ObjectAttention, ViewAttention};

    use super::*;
    use crate::report::gallery::{Artist, Drawing, Kind};

    fn drawn(attention: Option<ObjectAttention>) -> Drawn {
        let object = Object {
            kind: Kind::Worst,
            place: 8,
            id: String::from("chair/<b>"),
            truth: vec![vec![1, 2, 3], vec![4]],
            drawings: vec![Drawing {
                loss: 0.123_456,
                images: vec![vec![5, 6, 7], vec![8]],
                attention,
            }],
        };
        let gallery = Gallery {
            split: String::from("test"),
            data_sha256: String::from("0123456789abcdef"),
            is_held_out: false,
            num_objects: 40,
            ranking: vec![0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.5],
            views: vec![0, 6],
            size_px: 64,
            artists: vec![Artist {
                name: String::from("two </script>"),
                seed: 7,
                selection: String::from("last step"),
            }],
            objects: vec![object],
        };
        Drawn {
            galleries: vec![gallery],
            left_out: [(String::from("other"), String::from("its data <moved>"))].into(),
        }
    }

    #[test]
    fn a_loss_stands_with_all_that_it_depends_on() {
        let page = views(&drawn(None));
        for part in [
            "9 of the 40 objects of split test",
            "Not held out",
            "0123456789ab<",
            "two &lt;/script&gt;: seed 7, last step",
            "worst",
            "chair/&lt;b&gt;",
            "9 of 9",
            "loss 0.1235",
            "from 0.01000 over 0.05000 in the middle to 0.5000",
            "id='g0o0truev0' alt='chair/&lt;b&gt; as it is, view 1'",
            "id='g0o0r0v1'",
            "view 7",
            "base64,BQYH",
            "other is left out: its data &lt;moved&gt;",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(inspectors(&drawn(None)).is_empty(), "nothing to look at");
    }

    #[test]
    fn no_name_ends_the_data_of_an_inspector() {
        let attention = ObjectAttention {
            points: vec![[1.0, 0.0, 0.0]],
            nearest_token: vec![0],
            num_tokens: 1,
            has_pad_token: false,
            grid: 1,
            views: vec![ViewAttention {
                view_from_object: [0.0; 9],
                shares: vec![vec![1.0]],
            }],
        };
        let html = inspectors(&drawn(Some(attention)));
        assert_eq!(html.matches("</script>").count(), 1, "{html}");
        let json = html.split("id='attention0'>").nth(1).unwrap();
        let json: serde_json::Value = serde_json::from_str(json.split("</script>").next().unwrap()).unwrap();
        assert_eq!(json["runs"][0], "two </script>");
        assert_eq!(json["views"], serde_json::json!([1, 7]));
        assert_eq!(json["objects"][0]["attention"][0]["views"][0]["shares"], "/w==");
    }
}
