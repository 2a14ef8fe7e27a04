"use strict";

/* From a text to a picture: what to draw, in which rows, and how it is painted. */

// Widths in images: of a sign between images, and of the gap between two.
const SIGN = 0.45;
const GAP = 1 / 14;

const isLabel = (text) => text === String(Number(text)) && Number(text) < numLabels;

/**
 * Reads a text as cells: `{ label }` for an image, `{ sign }` for what stands between images.
 *
 * A number that is a label is one image, any other is read digit by digit, as by the programs.
 * Digits that are no labels, and letters, leave a space.
 */
function cellsOf(text) {
  return [...text.matchAll(/\d+|\D/gu)].flatMap(([found]) => {
    if (/\D/.test(found)) return [{ sign: /[\p{P}\p{S}]/u.test(found) ? found : "" }];
    const numbers = isLabel(found) ? [found] : [...found];
    return numbers.map((number) => (isLabel(number) ? { label: Number(number) } : { sign: "" }));
  });
}

const isImage = (cell) => cell.sign === undefined;
const widthOf = (cells) => cells.reduce((sum, cell) => sum + (isImage(cell) ? 1 : SIGN), 0);
const withoutSpace = (row) => row.slice(0, row.findLastIndex((cell) => cell.sign !== "") + 1);
const widthOfRows = (rows) => Math.max(...rows.map((row) => widthOf(withoutSpace(row))));

/** Numbers, each with the signs after it. */
function wordsOf(cells) {
  const words = [];
  cells.forEach((cell, i) => {
    if (i === 0 || (isImage(cell) && !isImage(cells[i - 1]))) words.push([]);
    words[words.length - 1].push(cell);
  });
  return words;
}

/** Rows of cells, each at most `limit` wide. Words are broken only if they are wider. */
function wrapped(cells, limit) {
  const rows = [[]];
  const place = (part) => {
    const row = rows[rows.length - 1];
    if (row.length && widthOf(row) + widthOf(withoutSpace(part)) > limit) rows.push([...part]);
    else row.push(...part);
  };
  for (const word of wordsOf(cells)) {
    if (widthOf(withoutSpace(word)) > limit) word.forEach((cell) => place([cell]));
    else place(word);
  }
  return rows;
}

/** At most `count` rows of cells, as even as possible. */
function evenRows(cells, count) {
  for (let limit = widthOf(cells) / count; ; limit += 0.05) {
    const rows = wrapped(cells, limit + 1e-6);
    if (rows.length <= count) return rows;
  }
}

/**
 * The side of an image that has so much room for itself and the gap to the next one. A multiple of
 * its size keeps its pixels sharp.
 */
function sideIn(room) {
  const side = room / (1 + GAP) - 1;
  return Math.floor(side / imageSize) * imageSize || Math.max(side, 1);
}

/**
 * Lays cells out in an area: in the fewest rows whose images are comfortable to look at or, if no
 * number of rows is, in those that make images largest.
 *
 * @returns {{rows: object[][], side: number}} The cells of each row, and the side of an image.
 */
function layout(cells, width, height, comfortable) {
  let best = { rows: [cells], side: 0 };
  for (let count = 1; count <= cells.length && best.side < comfortable; count++) {
    const rows = evenRows(cells, count);
    const side = sideIn(Math.min(width / widthOfRows(rows), height / rows.length));
    if (side > best.side) best = { rows, side };
  }
  return best;
}

/** An image as a canvas of its own size. */
function imageCanvas(pixels, canvas = document.createElement("canvas")) {
  canvas.width = canvas.height = imageSize;
  const data = new ImageData(imageSize, imageSize);
  pixels.forEach((value, i) => {
    const grey = Math.round(255 * value);
    data.data.set([grey, grey, grey, 255], 4 * i);
  });
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

/**
 * Paints rows of cells into the middle of a canvas.
 *
 * @param {object[][]} rows - The cells, with the images that have been drawn.
 * @param {number} side - Of an image, in pixels of the canvas.
 */
function paint(canvas, rows, side) {
  const gap = Math.ceil(side * GAP);
  const pitch = side + gap;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = side < imageSize;
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.font = `${Math.round(0.6 * side)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = "#8c8c8c";
  const left = Math.round((canvas.width - pitch * widthOfRows(rows) + gap) / 2);
  const top = Math.round((canvas.height - pitch * rows.length + gap) / 2);
  rows.forEach((row, i) => {
    let x = left;
    const y = top + i * pitch;
    for (const cell of row) {
      if (cell.image) context.drawImage(cell.image, Math.round(x), y, side, side);
      else if (cell.sign) context.fillText(cell.sign, x + (SIGN * pitch) / 2, y + side / 2);
      x += pitch * widthOf([cell]);
    }
  });
}
