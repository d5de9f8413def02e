/** The gateway, one folder above the console. */
export const root = new URL("../", document.baseURI)
