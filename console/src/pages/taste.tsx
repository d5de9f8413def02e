import type { PageProps } from "../app"
import { Empty } from "../components/states"

export function Taste(_: PageProps) {
  return <Empty title="Taste" />
}
