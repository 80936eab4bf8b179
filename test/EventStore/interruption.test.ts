import { Effect, Stream } from "effect"
import * as EventStore from "../../src/EventStore/index.js"
import { interruptions } from "../kit/interruption.js"
import { account, accounts, Balance, decider, deposits } from "./tools.js"

const Accounts = accounts("interrupted", { partitions: 2 })

const Account = decider(Accounts, { snapshot: Balance, snapshotEvery: 2 })

const opened = <A, E, R>(
  use: (store: Effect.Effect.Success<ReturnType<typeof open>>) => Effect.Effect<A, E, R>
) => Effect.flatMap(open(), use)

const open = () => EventStore.open(Accounts)

interruptions({
  // Histories grow with each of them.
  times: 60,
  layer: EventStore.layer,
  // Events stay, as they should; nothing is left of the locks of projections.
  keys: "lock:",
  competitor: (id) => opened((store) => store.append(account(id), deposits(1, 2))),
  forms: {
    "append": (id) => opened((store) => store.append(account(id), deposits(1, 3), { expected: "any" })),
    "load": (id) => opened((store) => Stream.runDrain(store.stream(account(id)))),
    "execute": (id) => opened((store) => store.execute(Account, id, 1)),
    "subscribe": () => opened((store) => Stream.runDrain(store.subscribe())),
    "project": (id) =>
      opened((store) => store.project({ name: `seen-${id}`, batch: 3, handle: () => Effect.yieldNow() }))
  }
})
