// Numbers and names as people read them.

export const percent = (share: number): string => `${Math.round(100 * share)}%`

export const signed = (value: number, digits = 2): string =>
  `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}`

const NUMBERS = new Intl.NumberFormat("en")

export const count = (value: number | bigint): string => NUMBERS.format(value)

export const plural = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`

export const short = (version: string): string => version.slice(0, 12)

/** As a sentence begins. */
export const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)
