import type { PageProps } from "../app"
import { Empty } from "../components/states"

export function ModelPage(_: PageProps) {
  return <Empty title="ModelPage" />
}
