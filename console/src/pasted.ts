// What people paste into the field of the token.

/** Of what was pasted: without the name of the scheme, and without line breaks. Empty if it cannot be a token. */
export function cleaned(text: string): string {
  const joined = text.replace(/^\s*(authorization:\s*)?(bearer\s)?/i, "").replace(/\s+/g, "")
  return /^[!-~]+$/.test(joined) ? joined : ""
}
