import type { PageProps } from "../app"
import { Empty } from "../components/states"

export function Scenarios(_: PageProps) {
  return <Empty title="Scenarios" />
}
