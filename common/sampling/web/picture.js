"use strict";

/* From a text to a picture: what to draw, in which rows, and how it is painted. */

// Widths in images: of a sign between images, and of the gap between two.
const SIGN = 0.45;
const GAP = 1 / 14;
// Height of the line below images that has their names.
const CAPTION = 0.28;
// The signs of dates and telephone numbers are drawn as they are.
const SIGNS = /^[\p{Pd}\u2212.,:/+()]$/u;

// The names of the classes, which are numbers unless the page was made with others.
const names = Array.from({ length: numLabels }, (_, i) => description.names[i] ?? String(i));
const numbered = names.every((name, i) => name === String(i));
// Names of one character each are typed, as digits are; others are chosen.
const typable = numbered || names.every((name) => [...name].length === 1);

/** The label of a name, in capital or small letters; -1 if there is none. */
function labelOf(name) {
  const label = names.indexOf(name);
  if (label >= 0) return label;
  return names.findIndex((other) => other.toLowerCase() === name.toLowerCase());
}

/**
 * Reads a text as cells: `{ label }` for an image, `{ sign }` for what stands between images.
 *
 * A number that is a label is one image, any other is read digit by digit, as by the programs.
 * What is neither a class nor a sign leaves a space.
 */
function cellsOf(text) {
  const cells = [...text.matchAll(numbered ? /\d+|\p{L}+[.,:]*|./gsu : /./gsu)]
    .flatMap(([found]) => (/^\d/.test(found) && labelOf(found) < 0 ? [...found] : [found]))
    .map((part) => {
      const label = labelOf(part);
      return label >= 0 ? { label } : { sign: SIGNS.test(part) ? part : "" };
    });
  return cells.filter(({ sign }, i) => sign !== "" || (i > 0 && cells[i - 1].sign !== ""));
}

const isImage = (cell) => cell.sign === undefined;
const textOf = (cells) => cells.map(({ label, sign }) => names[label] ?? (sign || " ")).join("").trim();
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
 * @param {boolean} named - Whether the name of its class stands below each image.
 */
function paint(canvas, rows, side, named) {
  const gap = Math.ceil(side * GAP);
  const pitch = side + gap;
  canvas.width = Math.ceil(pitch * widthOfRows(rows)) + gap;
  const height = pitch + (named ? Math.ceil(side * CAPTION) : 0);
  canvas.height = height * rows.length + gap;
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  // there are names or signs
  context.font = `600 ${Math.round((named ? 0.17 : 0.6) * side)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillStyle = "#fff";
  rows.forEach((row, i) => {
    let x = gap;
    const y = gap + i * height;
    for (const cell of row) {
      if (cell.image) context.drawImage(cell.image, Math.round(x), y, side, side);
      else if (cell.sign) context.fillText(cell.sign, x + (SIGN * pitch - gap) / 2, y + side / 2);
      // names that are too long become narrower
      if (named) context.fillText(names[cell.label], x + side / 2, y + side * (1 + CAPTION / 2), side);
      x += pitch * widthOf([cell]);
    }
  });
}
