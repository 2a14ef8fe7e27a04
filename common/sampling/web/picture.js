"use strict";

/* From a text to a picture: what to draw, in which rows, and how it is painted. */

// Widths in images: of a sign between images, and of the gap between two.
const SIGN = 0.45;
const GAP = 1 / 14;
// The signs of dates and telephone numbers are drawn as they are.
const SIGNS = /^[\p{Pd}\u2212.,:/+()]$/u;

const isLabel = (text) => text === String(Number(text)) && Number(text) < numLabels;

/**
 * Reads a text as cells: `{ label }` for an image, `{ sign }` for what stands between images.
 *
 * A number that is a label is one image, any other is read digit by digit, as by the programs.
 * Digits that are no labels, and what is neither a digit nor a sign, leave a space.
 */
function cellsOf(text) {
  const cells = [...text.matchAll(/\d+|\p{L}+[.,:]*|./gsu)].flatMap(([found]) => {
    if (!/^\d/.test(found)) return [{ sign: SIGNS.test(found) ? found : "" }];
    const numbers = isLabel(found) ? [found] : [...found];
    return numbers.map((number) => (isLabel(number) ? { label: Number(number) } : { sign: "" }));
  });
  return cells.filter(({ sign }, i) => sign !== "" || (i > 0 && cells[i - 1].sign !== ""));
}

const isImage = (cell) => cell.sign === undefined;
const textOf = (cells) => cells.map(({ label, sign }) => label ?? (sign || " ")).join("").trim();
const widthOf = (cells) => cells.reduce((sum, cell) => sum + (isImage(cell) ? 1 : SIGN), 0);
const withoutSpace = (row) => row.slice(0, row.findLastIndex((cell) => cell.sign !== "") + 1);
const widthOfRows = (rows) => Math.max(...rows.map((row) => widthOf(withoutSpace(row))));

/** Words, each with the space after it. */
function wordsOf(cells) {
  const words = [[]];
  for (const cell of cells) {
    words.at(-1).push(cell);
    if (cell.sign === "") words.push([]);
  }
  return words;
}

/** Rows of cells, each at most `limit` wide. Words are broken only if they are wider than `most`. */
function wrapped(cells, limit, most) {
  const rows = [[]];
  const place = (part) => {
    const row = rows.at(-1);
    if (row.length && widthOf(row) + widthOf(withoutSpace(part)) > limit) rows.push([...part]);
    else row.push(...part);
  };
  for (const word of wordsOf(cells)) {
    if (widthOf(withoutSpace(word)) > most) word.forEach((cell) => place([cell]));
    else place(word);
  }
  return rows;
}

/** Rows of cells, each at most `most` wide: as few as possible, and as even as so many can be. */
function rowsOf(cells, most) {
  const count = wrapped(cells, most, most).length;
  for (let limit = widthOf(cells) / count; ; limit += 0.05) {
    const rows = wrapped(cells, limit + 1e-6, most);
    if (rows.length <= count) return rows;
  }
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
 * Paints rows of cells on a canvas, which becomes as large as they are.
 *
 * @param {object[][]} rows - The cells, with the images that have been drawn.
 * @param {number} side - Of an image, in pixels of the canvas: a multiple of its size.
 */
function paint(canvas, rows, side) {
  const gap = Math.ceil(side * GAP);
  const pitch = side + gap;
  canvas.width = Math.ceil(pitch * widthOfRows(rows)) + gap;
  canvas.height = pitch * rows.length + gap;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.font = `600 ${Math.round(0.6 * side)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = "#fff";
  rows.forEach((row, i) => {
    let x = gap;
    const y = gap + i * pitch;
    for (const cell of row) {
      if (cell.image) context.drawImage(cell.image, Math.round(x), y, side, side);
      else if (cell.sign) context.fillText(cell.sign, x + (SIGN * pitch - gap) / 2, y + side / 2);
      x += pitch * widthOf([cell]);
    }
  });
}
