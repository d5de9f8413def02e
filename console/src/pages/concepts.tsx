import type { PageProps } from "../app"
import { Empty } from "../components/states"

export function Concepts(_: PageProps) {
  return <Empty title="Concepts" />
}
