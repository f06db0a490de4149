/** A secret or a config as Docker's API shows it. What a secret holds is in no answer. Pure. */
import type { Payload } from '../../model/objects.ts';
import type { PayloadKind } from '../../model/payloads.ts';

export function payloadJson(kind: PayloadKind, { id, meta, spec }: Payload): object {
  const { Name, Labels, Data, Templating } = spec;
  return {
    ID: id,
    Version: { Index: meta.version },
    CreatedAt: meta.createdAt,
    UpdatedAt: meta.updatedAt,
    Spec: {
      Name,
      Labels,
      ...(kind === 'config' ? { Data } : {}),
      ...(Templating === undefined ? {} : { Templating }),
    },
  };
}
