//! A headless Chromium, driven over the DevTools protocol on a pipe.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::dir::Dir;

/// How long the browser may take for anything.
const DEADLINE: Duration = Duration::from_secs(120);

/// A browser with one page. It ends when it is dropped.
pub struct Browser {
    _child: Child,
    requests: ChildStdin,
    messages: BufReader<ChildStdout>,
    session: String,
    last: u64,
    /// What the page has reported as wrong: exceptions, errors of the console, violations of its policy.
    pub errors: Vec<String>,
    _profile: Dir,
}

impl Browser {
    /// Opens a page in a window of this size.
    ///
    /// # Panics
    /// If the program does not run.
    pub async fn open(program: &Path, url: &str, width: u32, height: u32) -> Self {
        let profile = Dir::new("browser");
        // The pipe is on the descriptors 3 and 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null", "sh"])
            .arg(program)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--remote-debugging-pipe", "--hide-scrollbars"])
            // It asks nothing of the network but the page.
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a shell");
        let requests = child.stdin.take().expect("piped");
        let messages = BufReader::new(child.stdout.take().expect("piped"));
        let mut browser = Self {
            _child: child,
            requests,
            messages,
            session: String::new(),
            last: 0,
            errors: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await;
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", target).await;
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({})).await;
        }
        browser.resize(width, height).await;
        browser.call("Page.navigate", json!({ "url": url })).await;
        browser
    }

    /// Sets the size of the window.
    pub async fn resize(&mut self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Chooses the light or the dark scheme.
    pub async fn scheme(&mut self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features).await;
    }

    /// The value of an expression; of a promise, what it resolves to.
    ///
    /// # Panics
    /// If it throws.
    pub async fn evaluate(&mut self, expression: &str) -> Value {
        let wanted = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let result = self.call("Runtime.evaluate", wanted).await;
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// If it does not come true in time.
    pub async fn until(&mut self, expression: &str) {
        let end = Instant::now() + DEADLINE;
        while self.evaluate(&format!("Boolean({expression})")).await != true {
            if Instant::now() >= end {
                let text = self.evaluate("document.body.innerText").await;
                panic!("it does not come true: {expression}\n{text}\n{:?}", self.errors);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Types a text where the focus is.
    pub async fn type_text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key, such as `Enter` or `Tab`.
    pub async fn press(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let code = if key == "Enter" { 13 } else { 9 };
            let event =
                json!({ "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Writes a PNG of the window.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub async fn screenshot(&mut self, file: &Path) {
        let image = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let image = STANDARD.decode(image["data"].as_str().expect("an image")).expect("base64");
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        std::fs::write(file, image).expect("written");
    }

    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut request = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            request["sessionId"] = self.session.as_str().into();
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).await.expect("the browser reads");
        loop {
            let message = self.next().await;
            if message["id"] == self.last {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].clone();
            }
            self.note(&message);
        }
    }

    async fn next(&mut self) -> Value {
        let mut message = Vec::new();
        let read = timeout(DEADLINE, self.messages.read_until(0, &mut message)).await;
        assert!(read.expect("in time").expect("readable") > 0, "the browser has ended");
        message.pop();
        serde_json::from_slice(&message).expect("JSON")
    }

    fn note(&mut self, message: &Value) {
        let parameters = &message["params"];
        let is_error = match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => parameters["type"] == "error",
            Some("Log.entryAdded") => parameters["entry"]["level"] == "error",
            _ => false,
        };
        if is_error {
            self.errors.push(parameters.to_string());
        }
    }
}
