// Shows /openapi.json. All text is inserted as text, never as HTML.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(name, attributes, ...children) {
  const node = document.createElement(name);
  Object.entries(attributes || {}).forEach(([key, value]) => node.setAttribute(key, value));
  node.append(...children);
  return node;
}

// Text in which `words` are code.
function prose(text) {
  const parts = String(text || "").split("`");
  return parts.map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

function resolve(api, schema) {
  let found = schema || {};
  while (found.$ref) found = found.$ref.slice(2).split("/").reduce((node, key) => node[key], api);
  return found;
}

// The schemas that a value may have, without null.
function variants(api, schema) {
  const whole = resolve(api, schema);
  const all = whole.oneOf || whole.anyOf;
  return all ? all.map((one) => resolve(api, one)).filter((one) => one.type !== "null") : [whole];
}

function typeName(api, schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  const all = schema.oneOf || schema.anyOf;
  if (all) return all.map((one) => typeName(api, one)).join(" | ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const types = [].concat(schema.type || "any");
  const named = types.map((type) => (type === "array" ? typeName(api, schema.items) + "[]" : type));
  return named.join(" | ") + (schema.format ? " (" + schema.format + ")" : "");
}

// An example of a value with this schema.
function example(api, schema, depth) {
  const one = variants(api, schema)[0] || {};
  if (one.example !== undefined) return one.example;
  if (one.default !== undefined) return one.default;
  if (one.enum) return one.enum[0];
  const type = [].concat(one.type || "any").find((name) => name !== "null");
  if (depth > 5) return null;
  if (type === "object" || one.properties) {
    const entries = Object.entries(one.properties || {});
    return Object.fromEntries(entries.map(([key, value]) => [key, example(api, value, depth + 1)]));
  }
  if (type === "array") return [example(api, one.items, depth + 1)];
  if (type === "integer" || type === "number") return one.minimum || 0;
  if (type === "boolean") return false;
  if (type === "string") return one.format === "date-time" ? "2026-01-01T00:00:00Z" : "…";
  return null;
}

function fields(api, schema) {
  const rows = [];
  for (const one of variants(api, schema)) {
    for (const [name, value] of Object.entries(one.properties || {})) {
      const note = (one.required || []).includes(name) ? " (required)" : "";
      const text = value.description || resolve(api, value).description;
      rows.push(element("tr", {}, element("td", {}, name), element("td", {}, typeName(api, value) + note), element("td", {}, ...prose(text))));
    }
  }
  return rows.length ? [element("table", {}, ...rows)] : [];
}

function body(api, title, content) {
  const [type, media] = Object.entries(content)[0];
  const nodes = [element("h4", {}, title + ": " + typeName(api, media.schema) + " (" + type + ")"), ...fields(api, media.schema)];
  if (type.endsWith("json")) nodes.push(element("pre", {}, JSON.stringify(media.example ?? example(api, media.schema, 0), null, 2)));
  return nodes;
}

function parameters(api, list) {
  const rows = list.map((one) => {
    const note = one.in + (one.required ? ", required" : "");
    return element("tr", {}, element("td", {}, one.name), element("td", {}, typeName(api, one.schema) + " (" + note + ")"), element("td", {}, ...prose(one.description)));
  });
  return rows.length ? [element("h4", {}, "Parameters"), element("table", {}, ...rows)] : [];
}

function route(api, method, path, operation) {
  const nodes = [
    element("h3", {}, element("span", { class: "method" }, method), " " + path),
    element("p", {}, ...prose(operation.description || operation.summary)),
    element("p", { class: "note" }, "Policy: " + operation["x-policy"] + ". Operation: " + operation.operationId),
    ...parameters(api, operation.parameters || []),
  ];
  if (operation.requestBody) nodes.push(...body(api, "Body", operation.requestBody.content));
  for (const [status, answer] of Object.entries(operation.responses)) {
    const whole = resolve(api, answer);
    nodes.push(element("h4", {}, status + ": ", ...prose(whole.description)));
    if (whole.content && /^[23]/.test(status)) nodes.push(element("details", {}, element("summary", {}, "Answer"), ...body(api, "Body", whole.content)));
  }
  return element("article", { id: operation.operationId }, ...nodes);
}

function show(api) {
  const [nav, main] = [document.querySelector("nav"), document.querySelector("main")];
  nav.append(element("strong", {}, api.info.title + " " + api.info.version));
  main.append(element("h1", {}, "HTTP API"), element("p", {}, ...prose(api.info.description)));
  for (const tag of api.tags) {
    nav.append(element("h2", {}, tag.name));
    main.append(element("h2", {}, tag.name), element("p", {}, ...prose(tag.description)));
    for (const [path, item] of Object.entries(api.paths)) {
      for (const method of METHODS) {
        const operation = item[method];
        if (!operation || operation.tags[0] !== tag.name) continue;
        nav.append(element("a", { href: "#" + operation.operationId }, element("span", { class: "method" }, method), " " + path));
        main.append(route(api, method, path, operation));
      }
    }
  }
}

fetch("/openapi.json").then((answer) => answer.json()).then(show).catch((error) => {
  document.querySelector("main").append(element("p", {}, "cannot show /openapi.json: " + error));
});
