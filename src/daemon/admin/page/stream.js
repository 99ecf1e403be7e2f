// Requests to the daemon with the token, and server-sent events (as the HTML standard has them) over fetch, which unlike
// EventSource can send a header.

const RETRY = 2000;

/** A request with the token, which is asked for when the daemon wants one. */
export async function request(path, options = {}) {
  for (;;) {
    const token = sessionStorage.getItem("token");
    const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
    const response = await fetch(path, { ...options, headers, cache: "no-store" });
    if (response.status !== 401) return response;
    await askForToken();
  }
}

let asking = null;

function askForToken() {
  asking ??= new Promise((resolve) => {
    const dialog = document.getElementById("token");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("token", dialog.querySelector("input").value);
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** Calls `handle(name, data)` for each event of a response, up to its end. */
export async function read(response, handle) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (buffer + value).split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const lines = block.split("\n");
      const of = (field) => lines.filter((line) => line.startsWith(`${field}: `)).map((line) => line.slice(field.length + 2));
      const data = of("data").join("\n");
      if (data) handle(of("event")[0] ?? "message", JSON.parse(data));
    }
  }
}

/** Follows a stream, and opens it again whenever it ends, until `signal` is aborted. `state(live, text)` is called when that changes. */
export async function follow(path, signal, handle, state = () => {}) {
  while (!signal?.aborted) {
    try {
      const response = await request(path, { signal });
      if (!response.ok) throw new Error((await response.text()).trim());
      state(true, "live");
      await read(response, handle);
      state(false, "the connection ended; trying again");
    } catch (error) {
      if (signal?.aborted) return;
      state(false, `${error.message || error}; trying again`);
    }
    await new Promise((resolve) => setTimeout(resolve, RETRY));
  }
}
