"use strict";

/* What the controls of the page do. */

const conditional = numLabels > 0;
const kind = numLabels > 10 ? "Labels" : "Digits";
const range = `0 to ${numLabels - 1}`;

// The chapter draws 16 images, in rows of 4.
const IMAGES = 16;
// Width of the rows, in images, at most: a date and a telephone number have one of their own.
const WIDEST = conditional ? 12 : 4;
// Width of an image in a saved picture, at most: that of the programs' pictures.
const SAVED_PIXELS = 84;

const [labels, board, picture, sliderX, sliderY] =
  ["labels", "board", "picture", "x", "y"].map(element);
let rows = []; // of cells
let images = []; // the cells that are images
// The first image at the corners of the pad.
const onPad = [...document.querySelectorAll(".corner")].map((image, i) => (
  { image, number: 0, label: null, place: [i % 2, i >> 1], drawn: Infinity }));
let corners = []; // four vectors for each image, kept while the text changes
let moves = 0; // of the dot; an image is `drawn` after so many, or never: -1
let drawing = 0; // how many images are being drawn
let frame; // in which they will be shown

const typed = () => labels.value.normalize("NFKC");

/** Where the dot is: x from 0, left, to 1, right, and y from 0, top, to 1, bottom. */
const placeOfDot = () => [sliderX.value / 100, 1 - sliderY.value / 100];

/** Reads the text. Images that it has as before need not be drawn again. */
function read() {
  const before = images;
  images = [];
  const cells = conditional ? cellsOf(typed()) : Array.from({ length: IMAGES }, () => ({}));
  rows = rowsOf(cells.map((cell) => {
    if (!isImage(cell)) return cell;
    const number = images.length;
    const same = before[number]?.label === cell.label && before[number];
    images.push(same || { label: cell.label, number, drawn: -1 });
    return images[number];
  }), WIDEST);
  if (images.length && onPad[0].label !== images[0].label) {
    onPad.forEach((image) => Object.assign(image, { label: images[0].label, drawn: -1 }));
  }
  showHint();
  redraw();
}

/** The image that has waited longest to be drawn as the dot is now; none if all are. */
function nextImage() {
  return [...images, ...onPad].filter((image) => !image.busy && image.drawn < moves)
    .sort((a, b) => a.drawn - b.drawn)[0];
}

/** Draws what has changed. What changes again meanwhile is drawn as it then is. */
function redraw() {
  while (drawing < workers.count && nextImage()) drawImages();
  showSoon();
}

async function drawImages() {
  drawing += 1;
  for (let image = nextImage(); image; image = nextImage()) {
    image.busy = true;
    image.drawn = image.place ? Infinity : moves;
    corners[image.number] ??= newCorners();
    const noise = noiseBetween(corners[image.number], ...(image.place ?? placeOfDot()));
    image.image = imageCanvas(await gan.draw(noise, image.label), image.image);
    image.busy = false;
    showSoon();
  }
  drawing -= 1;
}

/** Four vectors of normally distributed numbers. */
function newCorners() {
  return Array.from({ length: 4 }, () => Float32Array.from({ length: latentSize }, randomNormal));
}

function showSoon() {
  board.ariaBusy = "true";
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(show);
}

/** Shows the picture as far as it is drawn. */
function show() {
  paintBoard();
  element("save").disabled = !images.length || images.some(({ image }) => !image);
  picture.hidden = !images.length;
  if (drawing) return;
  const drawn = `Drawn: ${conditional ? drawnText() : `${IMAGES} images`}`;
  picture.ariaLabel = drawn;
  say(images.length ? drawn : `Type ${kind.toLowerCase()}, ${range}.`);
  board.ariaBusy = "false";
}

/** Paints the picture, which the browser makes as large as the board allows. */
function paintBoard() {
  const room = Math.min(board.clientWidth / widthOfRows(rows), board.clientHeight / rows.length);
  const scale = Math.ceil((room * devicePixelRatio) / (1 + GAP) / imageSize);
  paint(picture, rows, Math.max(scale, 1) * imageSize);
  picture.style.setProperty("--aspect", picture.width / picture.height);
}

const drawnText = () => textOf(rows.flat());

/** Saves the picture, with images as large as in those of the programs. */
function savePicture() {
  const canvas = document.createElement("canvas");
  paint(canvas, rows, Math.max(1, Math.floor(SAVED_PIXELS / imageSize)) * imageSize);
  const link = document.createElement("a");
  link.href = canvas.toDataURL();
  link.download = `${drawnText().match(/\d+/g)?.join("-") ?? "images"}.png`;
  link.click();
  say(`Saved as ${link.download}`);
}

/** Says what has happened; the same again is not worth a word. */
function say(text) {
  if (element("status").textContent !== text) element("status").textContent = text;
}

/** Says what can be typed. */
function showHint() {
  const isDrawn = (character) =>
    /\s/.test(character) || SIGNS.test(character) || isLabel(character);
  const hints = [
    [![...typed()].every(isDrawn), `Only ${range} and the signs - . , : / + ( ) are drawn.`],
    [labels.value.length >= labels.maxLength, `At most ${labels.maxLength} characters.`],
    [numLabels > 10, `Labels ${range}, with spaces between them.`],
    [numLabels < 10, `Digits ${range}.`],
    [true, "A date, for example, or a telephone number."],
  ];
  element("hint").textContent = hints.find(([applies]) => applies)[1];
}

/** Says why nothing can be drawn; errors that follow from the first one say less. */
function showFailure(message) {
  element("failure").textContent ||=
    `This browser cannot run the generator (${message}). Browsers since 2023 can.`;
}

function followSliders() {
  moves += 1;
  const { style } = element("dot");
  style.left = `${sliderX.value}%`;
  style.bottom = `${sliderY.value}%`;
  sliderX.ariaValueText = `${sliderX.value} percent right`;
  sliderY.ariaValueText = `${sliderY.value} percent top`;
  redraw();
}

function followPointer(event) {
  const { left, bottom, width, height } = element("area").getBoundingClientRect();
  sliderX.value = (100 * (event.clientX - left)) / width;
  sliderY.value = (100 * (bottom - event.clientY)) / height;
  followSliders();
}

function start() {
  const count = description.weightCount.toLocaleString("en");
  element("about").textContent =
    `${conditional ? "A conditional GAN" : "A GAN"} with ${count} weights, trained in competition ` +
    "with a discriminator. It runs in this page: nothing is loaded, nothing is sent.";
  document.title = element("title").textContent =
    conditional ? "A GAN draws what you type" : "What a GAN draws";
  element("text").hidden = !conditional;
  element("labels-name").textContent = kind;
  labels.value = Array.from({ length: Math.min(numLabels, 10) }, (_, label) => label)
    .join(numLabels > 10 ? " " : "");

  labels.addEventListener("input", read);
  // a click would put the cursor between the digits that are there
  labels.addEventListener("focus", () => {
    labels.addEventListener("click", () => labels.select(), { once: true });
  });
  const pad = element("pad");
  pad.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    pad.setPointerCapture(event.pointerId);
    sliderX.focus({ preventScroll: true });
    followPointer(event);
  });
  pad.addEventListener("pointermove", (event) => {
    if (event.buttons) followPointer(event);
  });
  pad.addEventListener("input", followSliders);
  element("renew").addEventListener("click", () => {
    corners = [];
    [...images, ...onPad].forEach((image) => { image.drawn = -1; });
    say("");
    redraw();
  });
  element("save").addEventListener("click", savePicture);
  new ResizeObserver(paintBoard).observe(board);
  followSliders();
  read();
}

start();
