// Fitting against the conformance files. PNG is decoded here; JPEG by the browser, in e2e.
import assert from "node:assert/strict";
import { test } from "node:test";
import { BadPicture, decodePicture, fit, type ImageSpec, toPixels } from "vlmp-web";
import { blob, bytes, type Json, json } from "./conformance-files.js";

const files = json("picture/cases.json");

function specOf(each: Json): ImageSpec {
  const { height, width, fit, pad_rgb: padRgb, resample } = each;
  return { height, width, fit, padRgb, resample, visualTokens: 1, segments: [] };
}

for (const each of files.cases.filter(({ file }: Json) => file.endsWith(".png"))) {
  test(`fitted: ${each.name}`, async () => {
    const photo = await decodePicture(blob(`picture/${each.file}`));
    assert.deepEqual(fit(photo, specOf(each)).rgb, bytes(`picture/${each.fitted}`));
  });
}

for (const each of files.refused) {
  test(`refused: ${each.file}`, async () => {
    await assert.rejects(
      decodePicture(blob(`picture/${each.file}`)),
      (error) => error instanceof BadPicture && error.kind === each.refused && !error.message.includes("\n"),
    );
  });
}

test("the head of a JPEG", async () => {
  for (const each of files.cases.filter(({ file }: Json) => /turn-\d\.jpg/.test(file))) {
    let drawn = new Uint8Array();
    const turn = Number(each.file.match(/\d/)[0]);
    const picture = await decodePicture(blob(`picture/${each.file}`), async (file) => {
      drawn = new Uint8Array(await file.arrayBuffer());
      return { width: 3, height: 2, rgb: new Uint8Array(18) };
    });
    assert.equal(picture.width, turn >= 5 ? 2 : 3, each.file);
    assert.equal(Buffer.from(drawn).includes("Exif"), false, "what draws it must not turn it, too");
  }
});

test("a photo that is too large is refused before it is drawn", async () => {
  const photo = bytes("picture/turn-1.jpg");
  const frame = photo.findIndex((byte, place) => byte === 0xff && [0xc0, 0xc2].includes(photo[place + 1]));
  photo.set([0x7f, 0xff, 0x7f, 0xff], frame + 5);
  await assert.rejects(
    decodePicture(new Blob([photo]), () => assert.fail("drawn")),
    (error) => error instanceof BadPicture && error.kind === "size",
  );
});

test("pixels go channel by channel", () => {
  const picture = { width: 2, height: 1, rgb: Uint8Array.of(1, 2, 3, 255, 254, 253) };
  const spec = specOf({ height: 1, width: 2, fit: "pad", pad_rgb: [0, 0, 0], resample: "bicubic" });
  assert.deepEqual([...toPixels(picture, spec)], [1, 255, 2, 254, 3, 253]);
});
