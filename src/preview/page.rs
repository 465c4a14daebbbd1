//! The page itself.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use tap_dataset::{Manifest, Split};

use super::Preview;
use tap_cli::page::{ALONE, COLORS, embedded_json, escape, head_of};
use tap_cli::ui;

/// Names the program in a page's head.
const GENERATOR: &str = "<meta name='generator' content='tap dataset preview'>";

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("viewer.js");

const VIEWER: &str = "\
<dialog id='viewer'><div class='stage'><canvas id='canvas' width='720' height='720' tabindex='0' autofocus></canvas><div class='side'>\
<button class='close' id='close' type='button' aria-label='close'>&times;</button>\
<h3 id='object'></h3><div class='faint' id='of'></div><div id='findings'></div><div class='strip' id='strip'></div>\
<p class='switches'><label><input type='checkbox' id='rig' checked> cameras</label>\
<label><input type='checkbox' id='pictures' checked> pictures</label>\
<label id='guess' hidden><input type='checkbox' id='predicted' checked> predicted parts</label>\
<span>drag to turn, wheel to zoom, arrows for the next view</span></p>\
<table class='facts'><tbody id='facts'></tbody></table></div></div></dialog>";

/// Is a file a page that [`html`] gave? Those of older versions have no name of the program in them, but forbid to load
/// anything in words of their own.
pub(crate) fn is_preview(file: &Path) -> bool {
    let head = head_of(file);
    head.starts_with("<!doctype html>") && (head.contains(GENERATOR) || head.contains(ALONE))
}

/// The preview as a single HTML file.
///
/// # Errors
/// When what is shown has no JSON form.
pub(crate) fn html(preview: &Preview) -> Result<String> {
    let data = embedded_json(&preview.data).context("could not write the objects as JSON")?;
    let name = escape(&preview.name);
    let mut page = format!(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width, initial-scale=1'>{GENERATOR}{ALONE}\
         <title>{name}</title><style>{COLORS}{STYLE}</style></head><body>\n\
         <header><h1>{name}</h1>\n<div class='faint mono'>{}</div>\n{}</header>\n",
        escape(preview.manifest.sha256.as_deref().unwrap_or_default()),
        tiles(preview),
    );
    section(&mut page, "Categories", &categories(preview));
    section(
        &mut page,
        "Objects",
        &format!(
            "{}<div class='tools'><input id='search' type='search' placeholder='name or finding' \
         aria-label='filter by name or finding'><span class='faint' id='shown'></span></div>\n\
         <noscript>The objects are shown by a script.</noscript><div class='grid' id='grid'></div>",
            drawn(preview)
        ),
    );
    section(&mut page, "How it was made", &recipe(&preview.manifest)?);
    if preview.num_skipped > 0 {
        section(&mut page, "Left out", &skipped(preview));
    }
    let _ = write!(
        page,
        "{VIEWER}\n<script type='application/json' id='data'>{data}</script>\n<script>{SCRIPT}</script>\n</body></html>\n"
    );
    Ok(page)
}

/// What pictures show that are no views.
fn drawn(preview: &Preview) -> &'static str {
    match (preview.draws_points, preview.data.shows_predictions) {
        (_, true) => {
            "<p class='faint'>Points in the colors of their parts: on the left the true ones, on the right those that were predicted.</p>\n"
        }
        (true, false) => "<p class='faint'>The data set has no views: its points are drawn.</p>\n",
        (false, false) => "",
    }
}

fn section(page: &mut String, heading: &str, body: &str) {
    let _ = writeln!(page, "<section><h2>{heading}</h2>\n{body}</section>");
}

fn tiles(preview: &Preview) -> String {
    let Manifest { layout, shards, .. } = &preview.manifest;
    let num_rows: usize = shards.iter().map(|shard| shard.rows).sum();
    let bytes = shards.iter().map(|shard| shard.bytes).sum();
    let mut tiles = vec![
        (num_rows.to_string(), "objects"),
        (preview.categories.len().to_string(), "categories"),
    ];
    if layout.num_views > 0 {
        tiles.push((layout.num_views.to_string(), "views of each"));
        tiles.push((format!("{}²", layout.image_size_px), "pixels"));
    }
    tiles.extend([
        (layout.num_points.to_string(), "points"),
        (ui::bytes(bytes), "in shards"),
        (preview.num_skipped.to_string(), "left out"),
    ]);
    let tile =
        |(value, what): (String, &str)| format!("<li><b>{}</b><span>{what}</span></li>", escape(&value));
    let tiles: String = tiles.into_iter().map(tile).collect();
    format!("<ul class='tiles'>{tiles}</ul>")
}

fn categories(preview: &Preview) -> String {
    let total = |num_rows: &[usize; 3]| num_rows.iter().sum::<usize>();
    let most = preview
        .categories
        .iter()
        .map(|category| total(&category.num_rows))
        .max();
    let most = most.unwrap_or(0).max(1);
    let key = Split::ALL.map(|split| format!("<span><i class='{split}'></i>{split}</span>"));
    let mut html = format!("<div class='key'>{}</div><div class='categories'>", key.concat());
    for category in &preview.categories {
        let bars = Split::ALL.map(|split| {
            let percent = 100.0 * category.num_rows[split as usize] as f64 / most as f64;
            format!("<i class='{split}' style='width:{percent:.2}%'></i>")
        });
        let name = escape(&category.name);
        let _ = write!(
            html,
            "<button type='button' class='category' aria-pressed='false' data-name='{name}'>\
             <span class='name' title='{name}'>{name}</span><span class='bar'>{}</span>\
             <span class='count'>{}</span></button>",
            bars.concat(),
            total(&category.num_rows)
        );
    }
    html.push_str("</div>");
    html
}

fn recipe(manifest: &Manifest) -> Result<String> {
    let json = |value| serde_json::to_string_pretty(value).context("could not write the recipe as JSON");
    let rendered = if manifest.adapter.is_null() {
        String::new()
    } else {
        let adapter = manifest.adapter["name"].as_str();
        format!(
            ", rendered by {}",
            escape(adapter.unwrap_or("an unnamed adapter"))
        )
    };
    Ok(format!(
        "<p class='faint'>Made by {}{rendered}, from {} objects in the layout {}.</p>\n\
         <details><summary>Recipe</summary><pre class='mono'>{}</pre></details>",
        escape(&manifest.generator),
        manifest.source.num_objects,
        escape(&manifest.source.layout),
        escape(&json(&manifest.recipe)?)
    ))
}

fn skipped(preview: &Preview) -> String {
    let mut html =
        "<table class='skipped'><tr><th>object</th><th>reason</th><th>in words</th></tr>".to_owned();
    for object in &preview.skipped {
        let _ = write!(
            html,
            "<tr><td>{}</td><td><span class='tag'>{}</span></td><td>{}</td></tr>",
            escape(&object.id),
            object.reason,
            escape(&object.message)
        );
    }
    html.push_str("</table>");
    let more = preview.num_skipped - preview.skipped.len();
    if more > 0 {
        let list = if preview.manifest.lists.is_some() {
            "_left-out.parq and _skipped.parq"
        } else {
            "_manifest.json"
        };
        let _ = write!(html, "<p class='faint'>and {more} more, in {list}</p>");
    }
    html
}
