// Numbers and names as people read them.

export const percent = (share: number): string => `${Math.round(100 * share)}%`

export const signed = (value: number, digits = 2): string =>
  `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}`

export const count = (value: number | bigint): string => value.toLocaleString("en")

export const plural = (value: number, one: string, many = `${one}s`): string =>
  `${count(value)} ${value === 1 ? one : many}`

export const short = (version: string): string => version.slice(0, 12)
