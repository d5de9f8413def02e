import type { PageProps } from "../app"
import { Empty } from "../components/states"

export function Features(_: PageProps) {
  return <Empty title="Features" />
}
