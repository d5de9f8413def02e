const FORMAT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" })

/** Of an RFC 3339 time; the text itself where it is none. */
export function date(text: string): string {
  const time = new Date(text)
  return Number.isNaN(time.getTime()) ? text : FORMAT.format(time)
}
