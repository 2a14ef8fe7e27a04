"use strict";

/* What the controls of the page do. */

const conditional = numLabels > 0;

// The chapter draws 16 images.
const IMAGES = 16;
// Images of a text get more rows if they would be smaller than this, in CSS pixels.
const COMFORTABLE = 48;
// Width of an image in a saved picture, at most: that of the programs' pictures.
const SAVED_PIXELS = 84;

const labels = element("labels");
const [sliderX, sliderY] = [element("x"), element("y")];
let corners = []; // of each image, kept while the text changes
let shown = []; // cells with their images
let shownRows = [];
let onPad = {}; // what its corners show
let drawing = false;
let changed = false;

const typed = () => labels.value.normalize("NFKC");

/** Paints the picture as large as the board allows. */
function paintBoard() {
  const canvas = element("picture");
  canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
  canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
  const comfortable = conditional ? COMFORTABLE * devicePixelRatio : Infinity;
  const { rows, side } = layout(shown, canvas.width, canvas.height, comfortable);
  shownRows = rows;
  paint(canvas, rows, side);
}

/** Saves the picture, with images as large as in those of the programs. */
function savePicture() {
  const side = Math.max(1, Math.floor(SAVED_PIXELS / imageSize)) * imageSize;
  const gap = Math.ceil(side * GAP);
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil((side + gap) * widthOfRows(shownRows)) + gap;
  canvas.height = (side + gap) * shownRows.length + gap;
  paint(canvas, shownRows, side);
  const link = document.createElement("a");
  link.href = canvas.toDataURL();
  link.download = `${labels.value.match(/\d+/g)?.join("-") ?? "images"}.png`;
  link.click();
}

/** Draws what the text and the pad say; if they change meanwhile, once more. */
async function redraw() {
  changed = true;
  if (drawing) return;
  drawing = true;
  element("board").ariaBusy = "true";
  while (changed) {
    changed = false;
    const cells = conditional ? cellsOf(typed()) : Array.from({ length: IMAGES }, () => ({}));
    const [x, y] = [sliderX, sliderY].map((slider) => slider.value / slider.max);
    const images = cells.filter(isImage);
    while (corners.length < images.length) corners.push(newCorners());
    await Promise.all(images.map(async (cell, i) => {
      cell.image = imageCanvas(await gan.draw(noiseBetween(corners[i], x, y), cell.label));
    }));
    shown = cells;
    paintBoard();
    if (images.length) await drawOnPad(corners[0], images[0].label);
    element("save").disabled = images.length === 0;
    element("picture").ariaLabel = `${images.length} drawn images ${labels.value}`;
  }
  drawing = false;
  element("board").ariaBusy = "false";
}

/** Four vectors of normally distributed numbers. */
function newCorners() {
  return Array.from({ length: 4 }, () => Float32Array.from({ length: latentSize }, randomNormal));
}

/** Draws the first image at the four corners of the pad. */
async function drawOnPad(vectors, label) {
  if (onPad.vectors === vectors && onPad.label === label) return;
  onPad = { vectors, label };
  const canvases = [...document.querySelectorAll(".corner")];
  await Promise.all(canvases.map(async (canvas, i) => {
    imageCanvas(await gan.draw(noiseBetween(vectors, i % 2, i >> 1), label), canvas);
  }));
}

/** Says what can be typed. */
function showHint() {
  const range = `0 to ${numLabels - 1}`;
  const hints = [
    [[...typed()].some((x) => /\d/.test(x) && !isLabel(x)), `This generator draws ${range} only.`],
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

function moveTo(x, y) {
  [[sliderX, x], [sliderY, y]].forEach(([slider, share]) => {
    slider.value = share * slider.max;
  });
  followPad();
}

function followPad() {
  const { style } = element("handle");
  style.left = `${(100 * sliderX.value) / sliderX.max}%`;
  style.top = `${(100 * sliderY.value) / sliderY.max}%`;
  redraw();
}

function followPointer(event) {
  const { left, top, width, height } = element("pad").getBoundingClientRect();
  moveTo((event.clientX - left) / width, (event.clientY - top) / height);
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function followKey(event) {
  const arrow = ARROWS[event.key];
  if (!arrow) return;
  event.preventDefault();
  const step = 0.05;
  const [x, y] = [sliderX, sliderY].map((slider) => slider.value / slider.max);
  moveTo(x + arrow[0] * step, y + arrow[1] * step);
}

function start() {
  const kind = conditional ? "A conditional GAN" : "A GAN";
  const count = description.weightCount.toLocaleString("en");
  element("about").textContent =
    `${kind} with ${count} weights, trained in competition with a discriminator. It runs in this ` +
    "page: nothing is loaded, nothing is sent.";
  element("title").textContent = conditional
    ? "A GAN draws what you type" : "What a GAN draws";
  element("text").hidden = !conditional;
  element("labels-name").textContent = numLabels > 10 ? "Labels" : "Digits";
  labels.value = Array.from({ length: Math.min(numLabels, 10) }, (_, label) => label)
    .join(numLabels > 10 ? " " : "");
  showHint();

  const pad = element("pad");
  labels.addEventListener("input", () => {
    showHint();
    redraw();
    element("status").textContent = `Drawn: ${labels.value}`;
  });
  pad.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    pad.setPointerCapture(event.pointerId);
    sliderX.focus({ preventScroll: true });
    followPointer(event);
  });
  pad.addEventListener("pointermove", (event) => {
    if (event.buttons) followPointer(event);
  });
  pad.addEventListener("keydown", followKey);
  pad.addEventListener("input", followPad);
  element("renew").addEventListener("click", () => {
    corners = [];
    redraw();
    element("status").textContent = `Drawn from new noise: ${labels.value}`;
  });
  element("save").addEventListener("click", savePicture);
  new ResizeObserver(paintBoard).observe(element("board"));
  redraw();
}

start();
