// @ts-check
/** Pictures between files, canvases and what the API takes and gives. */

import { el } from "./dom.js";

const MAX_PICTURE_PX = 1024;

/** @param {number} width @param {number} height */
export function canvasOf(width, height) {
  const canvas = el("canvas", { width, height });
  return { canvas, pen: /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")) };
}

/** Draws on white: the network sees no transparency. @param {number} width @param {number} height @param {(pen: CanvasRenderingContext2D) => void} draw */
export function pngUrl(width, height, draw) {
  const { canvas, pen } = canvasOf(width, height);
  pen.fillStyle = "white";
  pen.fillRect(0, 0, width, height);
  draw(pen);
  return canvas.toDataURL("image/png");
}

/** A picture as a PNG of at most 1024 pixels, as a data URL. @param {CanvasImageSource} source @param {number} width @param {number} height */
export function scaledPng(source, width, height) {
  const scale = Math.min(1, MAX_PICTURE_PX / Math.max(width, height));
  const [wide, high] = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  return pngUrl(wide, high, (pen) => pen.drawImage(source, 0, 0, wide, high));
}

/** @param {Blob} file */
export async function readPicture(file) {
  const bitmap = await createImageBitmap(file);
  return scaledPng(bitmap, bitmap.width, bitmap.height);
}

/** The bytes behind base64, or behind a data URL. @param {string} base64 @param {string} type */
export function blobOf(base64, type) {
  const binary = atob(base64.slice(base64.indexOf(",") + 1));
  return new Blob([Uint8Array.from(binary, (letter) => letter.charCodeAt(0))], { type });
}
