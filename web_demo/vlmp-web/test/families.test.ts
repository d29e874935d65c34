// Bundles of every family against what Python answered, NAME and NAME.json in the folder that VLMP_FAMILIES names.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";
import { loadChat } from "vlmp-web";
import { bundle, ort, photo } from "./bundles.js";

const FOLDER = process.env["VLMP_FAMILIES"];
const answered = FOLDER === undefined ? [] : readdirSync(FOLDER).filter((name) => name.endsWith(".json"));

for (const file of answered) {
  test(`answers as Python does: ${basename(file, ".json")}`, async () => {
    const { questions, limit, turns } = JSON.parse(readFileSync(join(FOLDER!, file), "utf8"));
    const chat = await loadChat(ort, bundle(basename(file, ".json"), FOLDER));
    const found = [];
    for (const [picture, first, second] of questions) {
      found.push(await chat.ask(await photo(picture), first, { limit }), await chat.reply(second, { limit }));
    }
    assert.deepEqual(
      found.map(({ tokens, text, stages, order }) => ({ tokens, text, stages, order })),
      turns,
    );
    await chat.session.close();
  });
}
