import { connect } from "@pgqrs/pgqrs";
const s = await connect(Deno.args[0], {connectTimeoutMs: 500}); try { await s.admin.install(); await s.admin.createQueue("zz" + Date.now()); const ac = new AbortController(); const w = s.consumer("zz").dequeue({waitMs: 60000}).catch(e => console.log("w", e.message)); } catch (e) { console.log(e.message) } await s.close();
