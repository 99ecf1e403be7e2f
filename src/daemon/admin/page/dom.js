// Elements and texts. Whatever comes from outside becomes text here, never markup.

/** An element with attributes and children; a child that is not an element becomes text, and null is left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** A short state; `kind` is `good`, `warn` or `bad`. */
export function chip(kind, text) {
  return element("span", { class: `chip ${kind}` }, text);
}

/** A table with these names of columns and rows. */
export function table(columns, rows) {
  const head = columns.map((name) => element("th", { scope: "col" }, name));
  return element("table", {},
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...rows));
}

/** A row of a list that opens to show more: `head` are its elements, `body` makes the text when it is opened first. */
export function row(head, body) {
  const details = element("details", { class: "row" }, element("summary", {}, ...head));
  details.addEventListener("toggle", () => details.append(element("pre", {}, body())), { once: true });
  return details;
}

/** Puts a row at the top of a list, and keeps no more than `most`. */
export function prepend(list, made, most) {
  list.prepend(made);
  while (list.children.length > most) list.lastElementChild.remove();
}

/** Fills a select with values, and keeps what is selected if it is still there. */
export function fill(select, values) {
  const before = select.value;
  if (values.join("\n") === [...select.options].map((option) => option.value).join("\n")) return;
  select.replaceChildren(...values.map((value) => element("option", { value }, value)));
  if (values.includes(before)) select.value = before;
}

/** JSON text over several lines. It is not parsed, so that every digit stays. */
export function indent(text) {
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  return text.replace(/"(?:[^"\\]|\\.)*"|[{[]\s*[}\]]|[{}[\],:]|\s+/gs, (token) => {
    if (/^\s/.test(token)) return "";
    if (token === "{" || token === "[") {
      depth += 1;
      return token + line();
    }
    if (token === "}" || token === "]") {
      depth = Math.max(0, depth - 1);
      return line() + token;
    }
    if (token === ",") return token + line();
    return token === ":" ? ": " : token;
  });
}

/** The value of JSON text; undefined if it is none. */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A time of day with its date unless that is today, in the time zone of the reader. */
export function clock(text) {
  const time = text ? new Date(text) : new Date();
  if (Number.isNaN(time.getTime())) return text;
  const today = time.toDateString() === new Date().toDateString();
  return today ? time.toLocaleTimeString() : time.toLocaleString();
}

/** How long that is, in its two largest units. */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0s";
  let left = seconds;
  const parts = units.slice(first, first + 2).map(([name, size]) => {
    const count = Math.floor(left / size);
    left -= count * size;
    return count ? `${count}${name}` : "";
  });
  return parts.join(" ").trim();
}

/** A number with separators. */
export function number(value) {
  return Number(value ?? 0).toLocaleString();
}

/** Bytes, in a unit that fits. */
export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let size = Number(value ?? 0);
  let unit = 0;
  for (; size >= 1024 && unit < units.length - 1; unit += 1) size /= 1024;
  return `${unit ? size.toFixed(1) : size} ${units[unit]}`;
}
