/** What has not ended in a store. */
import type { Message } from "../message.ts";
import type { Store } from "../store.ts";

const PAGE = 100;

/** Everything that has not ended. */
export async function liveMessages(store: Store): Promise<Message[]> {
  const found: Message[] = [];
  let cursor: string | undefined;
  do {
    const page = await store.admin.messages.list({ limit: PAGE, ...(cursor !== undefined && { cursor }) });
    found.push(...page.items);
    cursor = page.cursor ?? undefined;
  } while (cursor !== undefined);
  return found;
}
