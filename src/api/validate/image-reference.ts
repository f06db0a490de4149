/** Image references: `[host[:port]/]path[:tag][@digest]`, by the grammar of the distribution project's reference. */

const COMPONENT = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const HOST =
  '(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\\[[0-9a-fA-F:]+\\])(?::[0-9]+)?';
const REFERENCE = new RegExp(
  `^(?:${HOST}/)?${COMPONENT}(?:/${COMPONENT})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?$`,
);
const IMAGE_ID = /^[a-f0-9]{64}$/;
const MAX_LENGTH = 512;

/** True if `text` names an image. A bare 64-digit id is none, as in Docker: other hosts could not find it. */
export function isImageReference(text: string): boolean {
  return text.length <= MAX_LENGTH && !IMAGE_ID.test(text) && REFERENCE.test(text);
}
