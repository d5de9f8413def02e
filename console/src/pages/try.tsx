import type { PageProps } from "../app"
import { Empty } from "../components/states"

export function Try(_: PageProps) {
  return <Empty title="Try" />
}
