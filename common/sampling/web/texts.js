"use strict";

/* What the page says, in English and in Chinese: {0} and so on are filled in. */

const TEXTS = {
  typedTitle: ["A GAN draws what you type", "输入什么，GAN 就画什么"],
  chosenTitle: ["A GAN draws what you choose", "选什么，GAN 就画什么"],
  plainTitle: ["What a GAN draws", "GAN 画出的图像"],
  conditional: [
    "A conditional GAN with {0} weights, trained in competition with a discriminator. It runs in this page: nothing is loaded, nothing is sent.",
    "条件 GAN 的生成器，共 {0} 个参数，在与判别器的对抗中训练而成。它就在本页中运行，不下载也不上传任何数据。",
  ],
  unconditional: [
    "A GAN with {0} weights, trained in competition with a discriminator. It runs in this page: nothing is loaded, nothing is sent.",
    "GAN 的生成器，共 {0} 个参数，在与判别器的对抗中训练而成。它就在本页中运行，不下载也不上传任何数据。",
  ],
  digits: ["Digits", "数字"],
  labels: ["Labels", "标签"],
  characters: ["Characters", "字符"],
  class: ["Class", "类别"],
  range: ["0 to {0}", "0 到 {0}"],
  date: ["A date, for example, or a telephone number.", "例如日期或电话号码。"],
  few: ["Digits {0}.", "数字 {0}。"],
  many: ["Labels {0}, with spaces between them.", "标签 {0}，用空格隔开。"],
  only: ["Only {0} and the signs - . , : / + ( ) are drawn.", "只能画 {0} 和符号 - . , : / + ( )。"],
  most: [
    "At most {0} {1} and signs are drawn: the last {2} are not.",
    "最多画 {0} 个{1}和符号，最后 {2} 个没有画。",
  ],
  each: ["Each class once", "每类一个"],
  first: ["The first {0} classes", "前 {0} 类"],
  drawn: ["Drawn: {0}", "已生成：{0}"],
  images: ["{0} images", "{0} 幅图像"],
  type: ["Type {0}, {1}.", "请输入{0}：{1}。"],
  saved: ["Saved as {0}", "已保存为 {0}"],
  failure: [
    "This browser cannot run the generator ({0}). Browsers since 2023 can.",
    "此浏览器无法运行生成器（{0}）。请换用 2023 年以来的浏览器。",
  ],
  walk: ["Move the dot to mix four drawings.", "拖动圆点，在四个潜向量之间插值。"],
  x: ["Between left and right", "左右位置"],
  y: ["Between bottom and top", "上下位置"],
  right: ["{0} percent right", "向右 {0}%"],
  top: ["{0} percent top", "向上 {0}%"],
  renew: ["Draw anew", "重新生成"],
  renewTitle: ["Draws the same in other ways", "换一组潜向量，再画一遍"],
  save: ["Save picture", "保存图片"],
};

const chinese = navigator.language.startsWith("zh");

/** A text in the browser's language. */
function textFor(name, ...values) {
  return TEXTS[name][Number(chinese)].replace(/\{(\d)\}/g, (_, i) => values[i]);
}
