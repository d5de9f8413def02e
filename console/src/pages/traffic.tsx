import type { PageProps } from "../app"
import { Empty } from "../components/states"

export function Traffic(_: PageProps) {
  return <Empty title="Traffic" />
}
