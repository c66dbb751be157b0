// Which key does what: the table of the help, and keys of keyboards that are not Latin.

export const HELP = [
  ["1 2 3 …", "the class with this key"], ["Space", "accept the prediction"], ["V", "void: no class"],
  ["U", "unsure: stays open, asked again at the end"], ["S", "skip this image"], ["Z", "undo"],
  ["C", "open again (clear the answer)"], ["/", "find a class by its name, then Enter"],
  ["Enter", "several classes: confirm; painting: close the polygon, or send"],
  ["← →  J K", "previous and next item"], ["N", "next image"], ["+ − Home", "zoom; whole image"],
  ["P", "painting on or off"], ["B G F X E", "brush, polygon, fill, superpixel, eraser"], ["[ ]", "size of the brush"],
  ["R", "painting: start from the prediction"], ["O", "opacity of the answers"], ["T", "light or dark"], ["H ?", "this help"],
];

// What goes on while a key is held down. Any other key counts once: it would answer items unseen.
const REPEATED = new Set(["arrowleft", "arrowright", "arrowup", "arrowdown", "j", "k", "+", "=", "-", "[", "]"]);

// The key of an event as the page names it. Keyboards that are not Latin, and those that have digits
// behind Shift only, are read by the place of the key.
export function keyOf(event) {
  const key = event.key.toLowerCase(), place = /^(?:Key([A-Z])|Digit([0-9]))$/.exec(event.code || "");
  if (!place || key.length > 1) return key;
  if (place[1]) return key.charCodeAt(0) < 128 ? key : place[1].toLowerCase();
  return /[a-z0-9/?+\-=[\]]/.test(key) ? key : place[2];
}

export const ignored = (event, key) => event.repeat && !REPEATED.has(key);
