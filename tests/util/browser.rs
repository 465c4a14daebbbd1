//! A Chromium without a screen, driven over a pipe by the protocol of its developer tools: real clicks and keys, what the console says, which
//! addresses are asked for.
//!
//! `TAP_CHROMIUM` names the program, or it is looked for on `PATH`; with `TAP_REQUIRE_BROWSER` its absence is a failure.
#![allow(dead_code, reason = "each test program uses its part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Names that it goes by.
const NAMES: [&str; 6] = [
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "chrome",
    "chrome-headless-shell",
];
/// No answer takes longer, even on a machine that does something else.
const PATIENCE: Duration = Duration::from_mins(2);

/// The program, where there is one.
pub(crate) fn find() -> Option<PathBuf> {
    let named = env::var_os("TAP_CHROMIUM").map(PathBuf::from);
    let on_path = || {
        let path = env::var_os("PATH")?;
        let mut files = env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name)));
        files.find(|file| file.is_file())
    };
    let found = named.or_else(on_path);
    assert!(
        found.is_some() || env::var_os("TAP_REQUIRE_BROWSER").is_none(),
        "TAP_REQUIRE_BROWSER is set, and there is no Chromium: install chromium-headless-shell, or name one in TAP_CHROMIUM"
    );
    found
}

/// A page in a window of its own.
pub(crate) struct Page {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Value,
    last_id: u64,
    events: Vec<Value>,
    _profile: TempDir,
}

impl Page {
    /// Opens a file in a window of that size, as on a phone if it is narrow.
    pub(crate) fn open(browser: &Path, file: &Path, [width, height]: [u32; 2]) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The pipe of the protocol is on descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#])
            .arg(browser)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args(["--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, messages) = channel();
        thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    break;
                }
            }
        });
        let mut page = Self {
            child,
            commands,
            messages,
            session: Value::Null,
            last_id: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = page.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        page.session = page.call("Target.attachToTarget", attach)["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        let is_phone = width < 600;
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": if is_phone { 2 } else { 1 }, "mobile": is_phone
        });
        page.call("Emulation.setDeviceMetricsOverride", metrics);
        page.call("Emulation.setTouchEmulationEnabled", json!({"enabled": is_phone}));
        let url = format!("file://{}", file.canonicalize().unwrap().display());
        page.call("Page.navigate", json!({"url": url}));
        page.wait_for("document.readyState === 'complete' && location.protocol === 'file:'");
        page
    }

    /// The value of an expression, as JSON.
    #[track_caller]
    pub(crate) fn get(&mut self, expression: &str) -> Value {
        let ask = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", ask);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, expression: &str) {
        let start = Instant::now();
        while self.get(expression) != json!(true) {
            assert!(start.elapsed() < PATIENCE, "never: {expression}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Clicks on the middle of an element.
    #[track_caller]
    pub(crate) fn click(&mut self, selector: &str) {
        let [x, y] = self.middle(selector);
        for kind in ["mousePressed", "mouseReleased"] {
            self.mouse(kind, [x, y]);
        }
    }

    /// Touches the middle of an element.
    #[track_caller]
    pub(crate) fn tap(&mut self, selector: &str) {
        let at = self.middle(selector);
        self.touch("touchStart", Some(at));
        self.touch("touchEnd", None);
    }

    /// Drags from the middle of an element with the mouse.
    #[track_caller]
    pub(crate) fn drag(&mut self, selector: &str, by: [f64; 2]) {
        let [x, y] = self.middle(selector);
        self.mouse("mousePressed", [x, y]);
        for part in [0.25, 0.5, 0.75, 1.0] {
            self.mouse("mouseMoved", [x + part * by[0], y + part * by[1]]);
        }
        self.mouse("mouseReleased", [x + by[0], y + by[1]]);
    }

    /// Drags from the middle of an element with a finger.
    #[track_caller]
    pub(crate) fn swipe(&mut self, selector: &str, by: [f64; 2]) {
        let [x, y] = self.middle(selector);
        self.touch("touchStart", Some([x, y]));
        for part in [0.25, 0.5, 0.75, 1.0] {
            self.touch("touchMove", Some([x + part * by[0], y + part * by[1]]));
        }
        self.touch("touchEnd", None);
    }

    /// Presses a key, named as in JavaScript.
    pub(crate) fn press(&mut self, key: &str) {
        for kind in ["rawKeyDown", "keyUp"] {
            let code = match key {
                "Tab" => 9,
                "Home" => 36,
                "ArrowLeft" => 37,
                "ArrowUp" => 38,
                "ArrowRight" => 39,
                "ArrowDown" => 40,
                _ => 0,
            };
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Colors or media features that the page sees.
    pub(crate) fn emulate_media(&mut self, media: &str, color_scheme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": color_scheme}]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"media": media, "features": features}),
        );
    }

    /// Errors and warnings so far: of scripts, of the console, and of the browser about the page.
    pub(crate) fn complaints(&self) -> Vec<&Value> {
        let is_bad = |level: &Value| ["error", "warning"].iter().any(|bad| level == bad);
        let is_complaint = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => is_bad(&event["params"]["type"]),
            Some("Log.entryAdded") => is_bad(&event["params"]["entry"]["level"]),
            _ => false,
        };
        self.events.iter().filter(is_complaint).collect()
    }

    /// Addresses that the page asked for so far, but for what lies in the page itself.
    pub(crate) fn requests(&self) -> Vec<&str> {
        let asked = self
            .events
            .iter()
            .filter(|event| event["method"] == "Network.requestWillBeSent");
        asked
            .filter_map(|event| event["params"]["request"]["url"].as_str())
            .filter(|url| !url.starts_with("data:"))
            .collect()
    }

    #[track_caller]
    fn middle(&mut self, selector: &str) -> [f64; 2] {
        let place = self.get(&format!(
            "(() => {{ const element = document.querySelector({selector:?}); \
             element.scrollIntoView({{ block: 'center', behavior: 'instant' }}); \
             const box = element.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        [0, 1].map(|axis| place[axis].as_f64().unwrap())
    }

    fn mouse(&mut self, kind: &str, [x, y]: [f64; 2]) {
        let event = json!({"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1});
        self.call("Input.dispatchMouseEvent", event);
    }

    fn touch(&mut self, kind: &str, at: Option<[f64; 2]>) {
        let points: Vec<Value> = at.into_iter().map(|[x, y]| json!({"x": x, "y": y})).collect();
        self.call(
            "Input.dispatchTouchEvent",
            json!({"type": kind, "touchPoints": points}),
        );
    }

    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut command = json!({"id": self.last_id, "method": method});
        command["params"] = params;
        if self.session != Value::Null {
            command["sessionId"] = self.session.clone();
        }
        self.commands
            .write_all(format!("{command}\0").as_bytes())
            .unwrap();
        loop {
            let mut message = self
                .messages
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("the browser does not answer {method}"));
            if message["id"] == self.last_id {
                assert_eq!(message["error"], Value::Null, "{method}");
                return message["result"].take();
            }
            self.events.push(message);
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
