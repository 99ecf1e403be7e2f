// From a JSON Schema to the fields of a form, and from the fields to a value. What does not fit a field is written as
// JSON.

import { element } from "./dom.js";

/** The schema behind `$ref`, and of the alternatives to null the other one. */
function resolved(schema, root) {
  if (schema?.$ref) return resolved(root.$defs?.[schema.$ref.split("/").pop()], root);
  const other = schema?.anyOf?.filter(({ type }) => type !== "null");
  return other?.length === 1 ? { ...resolved(other[0], root), description: schema.description } : schema ?? {};
}

/** The one type that a schema names besides null. */
function type(schema) {
  const types = [schema.type ?? []].flat().filter((name) => name !== "null");
  return types.length === 1 ? types[0] : undefined;
}

function properties(schema) {
  return Object.entries(schema?.properties ?? {});
}

/** The fields for a schema: one for each property of an object, else one for the whole value. */
export function fields(schema) {
  if (!properties(schema).length) return [field("", schema ?? {}, schema, false, "body")];
  const required = schema.required ?? [];
  return properties(schema).map(([name, inner]) => field(name, resolved(inner, schema), schema, required.includes(name), name));
}

function field(name, schema, root, required, title) {
  const hint = schema.description ? element("span", { class: "hint" }, schema.description) : null;
  const attributes = { "data-name": name, required, autocomplete: "off" };
  const label = required ? title : `${title} (optional)`;
  const made = input(schema, attributes, required);
  if (type(schema) === "boolean") return element("label", { class: "check" }, made, label, hint);
  return element("label", {}, label, made, hint);
}

function input(schema, attributes, required) {
  const choices = schema.enum ?? schema.oneOf?.map(({ const: value }) => value).filter((value) => value !== undefined);
  if (choices?.length) {
    const options = choices.map((choice) => element("option", { value: choice }, choice));
    return element("select", { ...attributes, "data-type": "string" }, required ? null : element("option", { value: "" }), ...options);
  }
  switch (type(schema)) {
    case "string": return element("input", { ...attributes, "data-type": "string" });
    case "boolean": return element("input", { ...attributes, required: false, type: "checkbox", "data-type": "boolean" });
    case "integer":
    case "number": return element("input", { ...attributes, type: "number", step: type(schema) === "integer" ? 1 : "any", "data-type": "json" });
    default: return element("textarea", { ...attributes, "data-type": "json", placeholder: "JSON", spellcheck: "false" });
  }
}

/** The value that the fields hold. Fields that were left empty are left out. Throws where JSON is wrong. */
export function value(container, schema) {
  const read = [...container.querySelectorAll("[data-name]")].map((made) => [made.dataset.name, one(made)]);
  const given = read.filter(([, content]) => content !== undefined);
  if (properties(schema).length) return Object.fromEntries(given);
  return given.length ? given[0][1] : {};
}

function one(made) {
  if (made.dataset.type === "boolean") return made.checked || undefined;
  const text = made.dataset.type === "json" ? made.value.trim() : made.value;
  if (text === "") return undefined;
  if (made.dataset.type === "string") return text;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${made.dataset.name || "body"}: ${error.message}`);
  }
}
