// /docs: openapi.json as tables of routes, fields and replies.

const api = await (await fetch("openapi.json")).json();
const resolve = (schema) => (schema?.$ref ? api.components.schemas[schema.$ref.split("/").pop()] : schema);
const element = (tag, text = "", attributes = {}) => Object.assign(document.createElement(tag), { textContent: text, ...attributes });

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  const one = schema.anyOf ?? schema.oneOf;
  if (one) return one.map(typeOf).filter((name) => name !== "null").join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  return schema.contentMediaType ? "file" : schema.type ?? "";
}

function limits(schema) {
  const one = schema.anyOf?.find((part) => part.type !== "null") ?? schema;
  const said = [];
  for (const [key, word] of [["minimum", "≥"], ["exclusiveMinimum", ">"], ["maximum", "≤"], ["exclusiveMaximum", "<"], ["maxItems", "at most"]]) {
    if (one[key] !== undefined) said.push(`${word} ${one[key]}`);
  }
  return said.join(", ");
}

function table(head, rows) {
  const whole = element("table"), top = element("tr");
  head.forEach((name) => top.append(element("th", name, { scope: "col" })));
  whole.append(top);
  for (const row of rows) {
    const line = element("tr");
    row.forEach((cell, i) => line.append(element(i ? "td" : "th", cell, i ? {} : { scope: "row" })));
    whole.append(line);
  }
  return whole;
}

function fields(schema) {
  const whole = resolve(schema);
  return Object.entries(whole.properties ?? {}).map(([name, field]) => [
    name, typeOf(field), whole.required?.includes(name) ? "required" : "", [field.description, limits(field)].filter(Boolean).join(" "),
  ]);
}

for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    const section = element("section"), title = element("h2");
    title.append(element("span", method, { className: "method" }), element("code", ` ${path}`));
    section.append(title, element("p", route.description ?? route.summary ?? ""));
    for (const [type, content] of Object.entries(route.requestBody?.content ?? {})) {
      section.append(element("h3", `Takes ${type}`), table(["field", "type", "", "meaning"], fields(content.schema)));
      const example = content.example ?? Object.values(content.examples ?? {})[0]?.value ?? resolve(content.schema).examples?.[0] ?? content.schema.examples?.[0];
      if (example) section.append(element("pre", JSON.stringify(example, null, 2)));
    }
    const replies = Object.entries(route.responses).map(([status, reply]) => [
      status, Object.entries(reply.content ?? {}).map(([type, content]) => `${type} ${typeOf(content.schema)}`).join(", "), reply.description,
    ]);
    section.append(element("h3", "Gives"), table(["status", "body", "when"], replies));
    document.getElementById("routes").append(section);
  }
}
const shapes = element("section");
shapes.append(element("h2", "Shapes"));
for (const name of Object.keys(api.components.schemas).sort()) {
  const rows = fields(api.components.schemas[name]);
  if (rows.length) shapes.append(element("h3", name), element("p", api.components.schemas[name].description ?? ""), table(["field", "type", "", "meaning"], rows));
}
document.getElementById("routes").append(shapes);
document.getElementById("routes").setAttribute("aria-busy", "false");
