//! `tap-train report` as a user meets it: a page with the objects that are drawn well and badly, and with the attention of a
//! patch, which a browser opens from the disk and clicks through.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../tests/util/browser.rs"]
mod browser;
mod program;
mod shape;
mod small;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Output;

use browser::Page;
use program::{stderr, succeeded};
use serde_json::{Value, json};

/// A few steps, with a record of each.
const RUN: [&str; 2] = [
    "pretrain.steps=6",
    "log={checkpoint_every=3,validate_every=3,num_images=2}",
];
const POINT_MAE: [&str; 7] = [
    "data.num_points=64",
    "pretrain.batch_size=4",
    "encoder.num_groups=10",
    "encoder.num_neighbors=12",
    "encoder.channels=32",
    "encoder.num_blocks=2",
    "encoder.num_heads=2",
];
/// What a page is opened on: a screen and a phone.
const SIZES: [[u32; 2]; 2] = [[1280, 900], [390, 844]];

struct TestDir(tempfile::TempDir);

impl TestDir {
    /// With a data set of 12 objects to train on and 6 that are held out.
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        shape::write(&place.path("data"), 4, 16, 64);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        program::run(self.0.path(), arguments)
    }

    #[track_caller]
    fn pretrain(&self, run: &str, preset: &str, settings: &[&str]) {
        let settings = settings.iter().chain(&RUN).flat_map(|setting| ["--set", setting]);
        let command = ["pretrain", "--data", "data", "--out", run, "--config", preset];
        let command = command.into_iter().chain(["--threads", "1"]).chain(settings);
        succeeded(&self.run(&command.collect::<Vec<_>>()));
    }

    /// TAP with a grid of 2 x 2 patches, and these settings on top.
    #[track_caller]
    fn tap(&self, run: &str, settings: &[&str]) {
        let settings: Vec<&str> = small::NETWORK.iter().chain(settings).copied().collect();
        self.pretrain(run, "mini", &settings);
    }

    /// The page of these arguments, and what was said on the way.
    #[track_caller]
    fn report(&self, arguments: &[&str]) -> (String, String) {
        let command = ["report", "--out", "page.html", "--force", "--threads", "1"];
        let output = self.run(&[&command[..], arguments].concat());
        assert_eq!(succeeded(&output).trim(), "page.html");
        let page = fs::read_to_string(self.path("page.html")).unwrap();
        (page, stderr(&output))
    }

    fn result(&self, run: &str) -> Value {
        program::json(&self.path(run).join("result.json"))
    }
}

/// Numbers behind `before`, in their order.
fn numbers(page: &str, before: &str) -> Vec<f64> {
    let pieces = page.split(before).skip(1);
    pieces
        .filter_map(|piece| {
            let end = piece.find(|char: char| !char.is_ascii_digit() && char != '.');
            piece[..end.unwrap_or(piece.len())].parse().ok()
        })
        .collect()
}

#[test]
fn objects_are_ranked_by_their_loss_and_shown_by_their_place() {
    let place = TestDir::new();
    place.tap("deep-seed0", &["seed=0"]);
    place.tap("deep-seed1", &["seed=1"]);
    place.tap("shallow", &["photograph.num_blocks=1"]);
    let (page, said) = place.report(&["deep-seed0", "deep-seed1", "shallow", "--objects", "1"]);
    assert!(
        said.contains("drawing objects of split test by deep-seed0, shallow"),
        "{said}"
    );
    for part in [
        "All 6 objects of split test are ranked by their loss, the mean over the runs",
        "deep-seed0: seed 0, last step",
        "shallow: seed 0, last step",
        "deep (2 seeds)",
        "Means over seeds",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let sha256 = place.result("shallow")["data_sha256"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        page.contains(&format!("title='{sha256}'")),
        "the data of the losses"
    );
    // Best, median, worst: each by both runs, and the first is no worse than the next.
    let losses = numbers(&page, "class='loss'>loss ");
    assert_eq!(losses.len(), 6, "{losses:?}");
    let means: Vec<f64> = losses.chunks(2).map(|of| of.iter().sum::<f64>() / 2.0).collect();
    assert!(means.is_sorted() && means[0] < means[2], "{means:?}");
    let kinds =
        ["good", "typical", "worst"].map(|kind| page.matches(&format!("class='kind {kind}'")).count());
    assert_eq!(kinds, [1, 1, 1]);
    for place in ["1 of 6", "3 of 6", "6 of 6"] {
        assert!(page.contains(place), "{place}");
    }
    assert_eq!(
        page.matches("src='data:image/png").count(),
        3 * 3 * 6,
        "three objects: as they are and by two runs, from six sides"
    );
    assert!(!page.contains("As the run drew them last"), "no older pictures");

    // A split of one object has the loss of that object.
    let others = ["ball/0004", "ball/0005", "box/0004", "box/0005", "cone/0004"];
    let but_one = format!("data.leave_out={others:?}");
    place.tap("one", &[&but_one]);
    let (page, _) = place.report(&["one"]);
    let [loss] = numbers(&page, "class='loss'>loss ")[..] else {
        panic!("one object")
    };
    let expected = place.result("one")["validation_loss"].as_f64().unwrap();
    assert!((loss - expected).abs() < 1e-3 * expected, "{loss} and {expected}");
    assert!(
        page.contains("cone/0005") && page.contains("kind typical"),
        "the one"
    );

    let (page, said) = place.report(&["one", "--objects", "0"]);
    assert!(
        !page.contains("<script") && said.is_empty(),
        "nothing is drawn: {said}"
    );
    let (page, _) = place.report(&["shallow", "--ranked", "4", "--objects", "9"]);
    assert!(
        page.contains("4 of the 6 objects of split test, spread evenly"),
        "a part"
    );
}

#[test]
fn what_cannot_be_drawn_is_left_out_with_the_reason() {
    let place = TestDir::new();
    place.tap("tap", &[]);
    place.tap(
        "direct",
        &[
            "photograph.mixing=projection",
            "photograph.pad_token=false",
            "photograph.ray_bias=false",
        ],
    );
    place.pretrain("point-mae", "mini-point-mae", &POINT_MAE);
    let (page, said) = place.report(&["point-mae"]);
    assert!(said.is_empty(), "another method draws no views: {said}");
    assert!(page.contains("As the run drew them last"), "but has pictures");
    let (page, _) = place.report(&["direct"]);
    assert!(page.contains("class='loss'"), "views without attention");
    assert!(!page.contains("<script"), "and nothing to look at");

    fs::rename(place.path("data"), place.path("moved")).unwrap();
    let (page, said) = place.report(&["tap", "point-mae"]);
    assert!(said.contains("tap: its views are left out: "), "{said}");
    assert!(
        page.contains("tap is left out: ") && page.contains("data"),
        "in the page too"
    );
    assert!(
        page.contains("As the run drew them last"),
        "its pictures stand in for its views"
    );
    let (page, said) = place.report(&["tap", "--data", "moved"]);
    assert!(
        !said.contains("left out") && page.contains("class='loss'"),
        "{said}"
    );

    shape::write(&place.path("other"), 2, 16, 64);
    let output = place.run(&["report", "tap", "--data", "other", "--out", "other.html"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("--data") && said.contains("not the data that the run was trained on"),
        "{said}"
    );
    assert!(!place.path("other.html").exists(), "no page");
    fs::rename(place.path("moved"), place.path("data")).unwrap();
    fs::remove_dir_all(place.path("tap/checkpoints")).unwrap();
    let (page, _) = place.report(&["tap", "direct"]);
    assert!(page.contains("tap is left out: the run has no weights"), "{page}");
    assert!(page.contains("class='loss'"), "the other run draws");
}

#[test]
#[expect(
    clippy::too_many_lines,
    reason = "one visit to the page, from the first click to the last"
)]
fn a_browser_opens_the_page_and_a_patch_colors_the_points() {
    let Some(program) = browser::find() else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: there is no Chromium to open the page with"
        );
        return;
    };
    let place = TestDir::new();
    place.tap("deep <b>", &[]);
    place.tap("deep-seed1", &["seed=1"]);
    place.tap(
        "shallow",
        &[
            "photograph.num_blocks=1",
            "photograph.query.grid=4",
            "decoder.layers=[{channels=8,stride=2},{channels=1,stride=2}]",
        ],
    );
    place.report(&["deep <b>", "deep-seed1", "shallow"]);
    for size in SIZES {
        let mut page = Page::open(&program, &place.path("page.html"), size);
        page.wait_for("Number(document.querySelector('.inspector').dataset.drawn) > 0");
        let is_phone = size[0] < 600;
        assert_eq!(
            page.get("document.documentElement.scrollWidth <= innerWidth"),
            json!(true),
            "nothing sticks out at {size:?}"
        );
        let first = painting(&mut page);
        assert_eq!(
            page.get("document.querySelectorAll('.patches button').length"),
            json!(4)
        );
        // Another patch: the same points in other colors.
        let button = |patch: usize| format!(".patches button:nth-child({patch})");
        if is_phone {
            page.tap(&button(1));
        } else {
            page.click(&button(1));
        }
        wait_for_change(&mut page, &first);
        let other = painting(&mut page);
        assert_eq!(other.shape, first.shape, "the points stay where they are");
        assert_ne!(other.colors, first.colors);
        assert_eq!(
            page.get("document.querySelector('.patches [aria-checked=true]').ariaLabel"),
            json!("row 1, column 1")
        );
        let said = said(&mut page);
        assert!(
            said.starts_with("Row 1, column 1: at most ")
                && said.contains("tokens")
                && said.contains("pad token"),
            "{said}"
        );
        page.click(&button(4));
        wait_for_change(&mut page, &other);
        assert_eq!(painting(&mut page), first, "and back");

        // Turned by hand, and back by a key.
        if is_phone {
            page.swipe(".cloud canvas", [80.0, 10.0]);
        } else {
            page.drag(".cloud canvas", [80.0, 40.0]);
        }
        wait_for_change(&mut page, &first);
        assert_ne!(painting(&mut page).shape, first.shape, "they turn");
        let turned = painting(&mut page);
        page.get("document.querySelector('.cloud canvas').focus()");
        page.press("Home");
        wait_for_change(&mut page, &turned);
        assert_eq!(painting(&mut page), first, "as it was");
        page.press("ArrowLeft");
        wait_for_change(&mut page, &first);
        page.press("Home");
        // Keys move among the patches.
        page.get("document.querySelector('.patches [aria-checked=true]').focus()");
        page.press("ArrowUp");
        wait_for_change(&mut page, &first);
        assert_eq!(
            page.get("document.activeElement.ariaLabel"),
            json!("row 1, column 2")
        );

        // Another view, block and object are other pictures.
        for label in ["view", "block", "object"] {
            let before = painting(&mut page);
            choose(&mut page, label, 0, 1);
            wait_for_change(&mut page, &before);
        }
        choose(&mut page, "run", 0, 1);
        page.wait_for("document.querySelectorAll('.patches button').length === 16");
        let sources = "[...document.querySelectorAll('.panes img')].every((image) => image.src.startsWith('data:image/png'))";
        assert_eq!(page.get(sources), json!(true));
        for [media, scheme] in [["screen", "dark"], ["print", "light"]] {
            let before = painting(&mut page);
            page.emulate_media(media, scheme);
            if scheme == "dark" {
                wait_for_change(&mut page, &before);
                assert_eq!(
                    painting(&mut page).shape,
                    before.shape,
                    "other colors in the dark"
                );
            }
        }
        assert_eq!(
            page.complaints(),
            [&Value::Null; 0],
            "errors or warnings at {size:?}"
        );
        let url = page.get("location.href");
        assert_eq!(
            page.requests(),
            [url.as_str().unwrap()],
            "the page asks for itself alone"
        );
        assert_eq!(
            page.get("document.querySelector('h2 b, h3 b, label b') === null"),
            json!(true),
            "no name is HTML"
        );
    }
}

/// That nothing is wrong with a page means something: what is wrong with one is seen.
#[test]
fn a_browser_tells_of_errors_and_of_what_a_page_asks_for() {
    let Some(program) = browser::find() else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: there is no Chromium to open a page with"
        );
        return;
    };
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("wrong.html");
    let wrong = "<!doctype html><img src='other.png'><script>console.error('one'); setTimeout(() => { document.title = 'later'; throw new Error('two'); }, 0);</script>";
    fs::write(&file, wrong).unwrap();
    let mut page = Page::open(&program, &file, SIZES[0]);
    page.wait_for("document.title === 'later'");
    let complaints = format!("{:?}", page.complaints());
    assert!(
        complaints.contains("one") && complaints.contains("two"),
        "{complaints}"
    );
    assert!(
        page.requests().iter().any(|url| url.ends_with("other.png")),
        "{:?}",
        page.requests()
    );
}

/// What a canvas shows.
#[derive(Debug, Clone, PartialEq)]
struct Painting {
    /// Which pixels are painted.
    shape: Value,
    /// And in which colors.
    colors: Value,
}

fn painting(page: &mut Page) -> Painting {
    let hash = |page: &mut Page, of: &str| {
        page.get(&format!(
            "(() => {{ const canvas = document.querySelector('.cloud canvas'); \
             const copy = Object.assign(document.createElement('canvas'), {{ width: canvas.width, height: canvas.height }}); \
             const context = copy.getContext('2d', {{ willReadFrequently: true }}); context.drawImage(canvas, 0, 0); \
             const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data; \
             let hash = 7; for (let i = 0; i < pixels.length; i += 4) hash = (hash * 31 + {of}) % 4294967291; return hash; }})()"
        ))
    };
    let is_painted = "(pixels[i + 3] > 0 ? i : 0)";
    let color = "pixels[i] * 65536 + pixels[i + 1] * 256 + pixels[i + 2]";
    Painting {
        shape: hash(page, is_painted),
        colors: hash(page, color),
    }
}

/// Waits until the canvas shows something else.
#[track_caller]
fn wait_for_change(page: &mut Page, before: &Painting) {
    let start = std::time::Instant::now();
    while painting(page) == *before {
        assert!(start.elapsed().as_secs() < 60, "the picture stays the same");
    }
}

fn said(page: &mut Page) -> String {
    let said = page.get("document.querySelector('.said').textContent");
    said.as_str().unwrap().to_owned()
}

/// Another option of a choice than the one that is chosen: `first`, or `second` if that is.
#[track_caller]
fn choose(page: &mut Page, label: &str, first: usize, second: usize) {
    let chosen = page.get(&format!(
        "(() => {{ const label = [...document.querySelectorAll('.choices label')].find((label) => label.firstChild.data === {label:?}); \
         const select = label.querySelector('select'); \
         select.selectedIndex = select.selectedIndex === {first} ? {second} : {first}; \
         select.dispatchEvent(new Event('change')); return select.selectedIndex; }})()"
    ));
    assert!(chosen == first || chosen == second, "{label}: {chosen}");
}
