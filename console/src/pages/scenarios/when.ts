// When, and by whom.

import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt"

const FORMAT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" })

export const when = (time: Timestamp | undefined): string =>
  time ? FORMAT.format(timestampDate(time)) : "at an unknown time"

export const by = (author: string): string => (author ? `by ${author}` : "without a name")
