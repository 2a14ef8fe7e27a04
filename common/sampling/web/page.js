"use strict";

/* What the controls of the page do. */

const conditional = numLabels > 0;
// What one types or chooses.
const kind = textFor(
  !typable ? "class" : !numbered ? "characters" : numLabels > 10 ? "labels" : "digits");

// Images that are drawn at a time, and signs between them, at most.
const MOST = 40;
// The chapter draws 16 images, in a square.
const IMAGES = 16;
// Width of an image in a saved picture, at most: that of the programs' pictures.
const SAVED_PIXELS = 84;

const [labels, choice, board, picture, sliderX, sliderY] =
  ["labels", "choice", "board", "picture", "x", "y"].map(element);
let rows = []; // of cells
let images = []; // the cells that are images
// The first image at the corners of the pad.
const onPad = [...document.querySelectorAll(".corner")].map((image, i) => (
  { image, number: 0, label: null, place: [i % 2, i >> 1], drawn: Infinity }));
let corners = []; // four vectors for each image, kept while the text changes
let moves = 0; // of the dot; an image is `drawn` after so many, or never: -1
let drawing = 0; // how many images are being drawn
let frame; // in which they will be shown

// Digits are also typed with an input method for Chinese, which makes them wide.
const typed = () => labels.value.normalize(numbered ? "NFKC" : "NFC");

/** Whether the picture shows several of the classes that are chosen, not typed. */
const isNamed = () => !typable && choice.value === "";

/** Width of the rows, in images, at most. */
function widest(cells) {
  if (conditional && typable) return 12; // a date and a telephone number have one of their own
  return isNamed() ? Math.max(5, Math.ceil(Math.sqrt(cells.length))) : Math.sqrt(IMAGES);
}

/** The cells that are asked for. */
function wantedCells() {
  if (!conditional) return Array.from({ length: IMAGES }, () => ({}));
  if (typable) return cellsOf(typed());
  if (isNamed()) return names.slice(0, MOST).map((_, label) => ({ label }));
  return Array.from({ length: IMAGES }, () => ({ label: Number(choice.value) }));
}

/** Where the dot is: x from 0, left, to 1, right, and y from 0, top, to 1, bottom. */
const placeOfDot = () => [sliderX.value / 100, 1 - sliderY.value / 100];

/** Reads the text. Images that it has as before need not be drawn again. */
function read() {
  const before = images;
  images = [];
  const cells = wantedCells();
  const drawable = cells.filter(({ sign }) => sign !== "");
  if (drawable.length > MOST) cells.length = cells.indexOf(drawable[MOST]);
  rows = rowsOf(cells.map((cell) => {
    if (!isImage(cell)) return cell;
    const number = images.length;
    const same = before[number]?.label === cell.label && before[number];
    images.push(same || { label: cell.label, number, drawn: -1 });
    return images[number];
  }), widest(cells));
  if (images.length && onPad[0].label !== images[0].label) {
    onPad.forEach((image) => Object.assign(image, { label: images[0].label, drawn: -1 }));
  }
  // what is beside an empty board would be of images that are no longer there
  document.querySelector("footer").style.visibility = images.length ? "" : "hidden";
  if (conditional && typable) showHint(Math.max(0, drawable.length - MOST));
  const title = element("title").textContent;
  document.title = typable || isNamed() ? title : `${drawnText()} – ${title}`;
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
  picture.ariaLabel = textFor("drawn", drawnText());
  say(images.length ? picture.ariaLabel : textFor("type", kind.toLowerCase(), range()));
  board.ariaBusy = "false";
}

/** Paints the picture, which the browser makes as large as the board allows. */
function paintBoard() {
  const height = rows.length * (isNamed() ? 1 + CAPTION : 1);
  const room = Math.min(board.clientWidth / widthOfRows(rows), board.clientHeight / height);
  const scale = Math.ceil((room * devicePixelRatio) / (1 + GAP) / imageSize);
  paint(picture, rows, Math.max(scale, 1) * imageSize, isNamed());
  picture.style.setProperty("--aspect", picture.width / picture.height);
}

function drawnText() {
  if (!conditional) return textFor("images", IMAGES);
  if (typable) return textOf(rows.flat());
  return isNamed() ? names.slice(0, MOST).join(", ") : names[choice.value];
}

/** Saves the picture, with images as large as in those of the programs. */
function savePicture() {
  const canvas = document.createElement("canvas");
  paint(canvas, rows, Math.max(1, Math.floor(SAVED_PIXELS / imageSize)) * imageSize, isNamed());
  const link = document.createElement("a");
  link.href = canvas.toDataURL();
  const words = conditional ? drawnText().match(/[\p{L}\p{M}\p{N}]+/gu) : null;
  link.download = `${words?.join("-").slice(0, 80) ?? "images"}.png`;
  link.click();
  say(textFor("saved", link.download));
}

/** Says what has happened; the same again is not worth a word. */
function say(text) {
  if (element("status").textContent !== text) element("status").textContent = text;
}

/** What can be typed. */
function range() {
  if (numbered) return textFor("range", numLabels - 1);
  return names.slice(0, MOST).join(" ") + (numLabels > MOST ? " ..." : "");
}

/** Says what can be typed, or what of it is not drawn: of the end, `left` digits and signs. */
function showHint(left) {
  const isDrawn = (character) =>
    /\s/.test(character) || SIGNS.test(character) || labelOf(character) >= 0;
  const others = ![...typed()].every(isDrawn);
  const hints = [];
  if (others || !numbered) hints.push(textFor("only", range()));
  if (left) hints.push(textFor("most", MOST, kind.toLowerCase(), left));
  const usual = numLabels === 10 ? "date" : numLabels < 10 ? "few" : "many";
  element("hint").textContent = hints.join(chinese ? "" : " ") || textFor(usual, range());
  element("hint").className = others || left ? "incomplete" : "";
}

/** Says why nothing can be drawn; errors that follow from the first one say less. */
function showFailure(message) {
  element("failure").textContent ||= textFor("failure", message);
}

function followSliders() {
  moves += 1;
  const { style } = element("dot");
  style.left = `${sliderX.value}%`;
  style.bottom = `${sliderY.value}%`;
  sliderX.ariaValueText = textFor("right", sliderX.value);
  sliderY.ariaValueText = textFor("top", sliderY.value);
  redraw();
}

function followPointer(event) {
  const { left, bottom, width, height } = element("area").getBoundingClientRect();
  sliderX.value = (100 * (event.clientX - left)) / width;
  sliderY.value = (100 * (bottom - event.clientY)) / height;
  followSliders();
}

/** Fills in the texts, and what is drawn first. */
function prepare() {
  document.documentElement.lang = chinese ? "zh-CN" : "en";
  const about = conditional ? "conditional" : "unconditional";
  element("about").textContent = textFor(about, description.weightCount.toLocaleString("en"));
  const title = conditional ? (typable ? "typedTitle" : "chosenTitle") : "plainTitle";
  element("title").textContent = textFor(title);
  for (const name of ["walk", "renew", "save"]) element(name).textContent = textFor(name);
  element("renew").title = textFor("renewTitle");
  for (const name of ["x", "y"]) element(name).ariaLabel = textFor(name);
  element("text").hidden = !conditional;
  element("kind").textContent = kind;
  element("kind").htmlFor = typable ? "labels" : "choice";
  (typable ? choice : labels).remove();
  if (!typable) {
    const each = numLabels > MOST ? textFor("first", MOST) : textFor("each");
    choice.append(new Option(each, ""), ...names.map((name, label) => new Option(name, label)));
  }
  labels.value = numbered && numLabels === 10 ? today()
    : names.slice(0, MOST).join(numLabels > 10 && numbered ? " " : "");
}

/** The date here, as in 2026-12-01. */
function today() {
  const now = new Date();
  return [now.getFullYear(), now.getMonth() + 1, now.getDate()]
    .map((number) => String(number).padStart(2, "0")).join("-");
}

function start() {
  prepare();
  // a click would put the cursor between the digits that are there, and then typing would not
  // replace them; who has typed already wants just that
  labels.addEventListener("focus", () => {
    labels.onclick = () => {
      labels.select();
      labels.onclick = null;
    };
  });
  labels.addEventListener("input", () => {
    labels.onclick = null;
    read();
  });
  choice.addEventListener("input", read);
  // Typing replaces the date. select() gives the focus, too, in some browsers only, which on a
  // touch screen would open a keyboard over the picture; there the first tap selects.
  if (!matchMedia("(pointer: coarse)").matches) {
    labels.focus({ preventScroll: true });
    labels.select();
  }
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
