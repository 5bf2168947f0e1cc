"""A corrector learnt from recorded runs: given a prediction D, what leads from it to the counterpart."""

import torch

from .correction import weight
from .corrector import LED, READ, Corrector, expand
from .training import fit

#: Records are drawn in proportion to w(sigma), and no less than this.
LEAST = 0.02
#: Records are moved by up to this share of a picture's sides, so that little is learnt about where things are.
MOVED = 1 / 16


#: Held-out pictures that are shown while it learns.
SHOWN = 4


def distil(records, config, *, batch, seed, device="cpu", held_out=None, show=None, **fitting):
    """Regress area * (goal - D) by relative error; where nothing was needed, relative to what usually is.

    What was needed is learnt among all records, and by itself: there as often on the way to the counterpart as where a
    prediction was recorded. See `Corrector.deltas`.

    Args:
        records: {group: {"denoised": (N, S, C, H, W), "level": (N, S), "goal": (N, C, H, W), "area": (N, 1, H, W),
            "choice": (N,)}}, tensors or anything that an index tensor indexes: N runs of S steps.
        config: a `Config` of kind "delta".
        held_out: the same, for validation.
        show: function of what `examples` returns, called at every validation and in the end.
        fitting: for `training.fit`: steps, lr, checkpoint and so on.

    Returns:
        A `Corrector` with gain 1, and the run's `History`.

    Raises:
        ValueError: no record differs from its counterpart.
    """
    torch.manual_seed(seed)
    corrector = Corrector(config).to(device)
    probe = torch.Generator().manual_seed(seed)
    chances = relevance(records, config)
    usual = draw(records, config, chances, 1024, probe)["size"]
    if not usual.any():
        raise ValueError("expected two wordings that differ, got no difference in any record; choose other words")
    usual = usual[usual > 0].mean().to(device)

    def relative_error(rows):
        found = corrector.raw(rows["denoised"], rows["level"], corrector.film(rows["level"], rows["label"]))
        error = found - rows["target"]
        size = rows["size"]  # exactly 0 where nothing was needed
        return (energy(error) / torch.where(size > 0, size + 1e-2 * usual, usual)).mean()

    validate = None
    if held_out is not None:
        fixed = draw(held_out, config, relevance(held_out, config), 4 * batch, probe, device)

        def validate():
            if show is not None:
                show(*examples(corrector, held_out))
            with torch.no_grad():
                return relative_error(fixed).item()

    history = fit(
        corrector,
        lambda generator: relative_error(draw(records, config, chances, batch, generator, device)),
        seed=seed,
        validate=validate,
        **fitting,
    )
    corrector.eval().requires_grad_(False)
    if held_out is not None and show is not None:
        show(*examples(corrector, held_out))
    return corrector, history


def led(rows):
    """(N,) flags of recorded runs that are led to another picture; all others need nothing."""
    return rows["area"][torch.arange(len(rows["area"]))].flatten(1).any(1)


@torch.no_grad()
def examples(corrector, records):
    """Some predictions that need a correction, corrected ones, and their counterparts: three of (N, C, H, W), or none.

    Of every run the prediction is taken that is furthest from its counterpart while w is 1/2 and more.
    """
    config, found, first = corrector.config, [], 0
    for group, window, choices in zip(config.groups, config.windows, config.choices):
        rows = records[group]
        run = led(rows).nonzero().flatten()[: -(-SHOWN // len(config.groups))]
        if len(run):
            denoised, goal, level = rows["denoised"][run].float(), rows["goal"][run].float(), rows["level"][run]
            apart = (rows["area"][run][:, None] * (goal[:, None] - denoised)).square().mean((2, 3, 4))
            step = (apart * (weight(level, 1.0, *window) >= 0.5)).argmax(1)
            place = torch.arange(len(run)), step
            found.append((denoised[place], goal, level[place], first + 2 * rows["choice"][run] + LED))
        first += 2 * len(choices)
    if not found:
        return ()
    device = next(corrector.parameters()).device
    denoised, goal, level, label = (torch.cat(values).to(device) for values in zip(*found))
    corrected = denoised + corrector.raw(denoised, level, corrector.film(level, label))
    return denoised.cpu(), corrected.cpu(), goal.cpu()


def energy(latents):
    """Mean square, (B,)."""
    return latents.square().mean((1, 2, 3))


def relevance(records, config):
    """{group: (N, S)}, in label order: how often a step of a run is to be drawn."""
    everything = {group: torch.arange(len(records[group]["level"])) for group in config.groups}
    return {
        group: weight(records[group]["level"][everything[group]], 1.0, *window).clamp_min(LEAST)
        for group, window in zip(config.groups, config.windows)
    }


def draw(records, config, chances, count, generator, device="cpu"):
    """A batch of as many records of every group: {"denoised", "level", "target", "size", "label"}.

    What was needed is in it a second time, under the other label; the size is its energy where it was recorded.

    A run that needed nothing has no label of its own and is learnt under one of its group's. All are `moved`, each by
    its own.
    """
    share, parts, first = -(-count // len(chances)), [], 0
    for (group, chance), choices in zip(chances.items(), config.choices):
        picks = torch.multinomial(chance.flatten(), share, replacement=True, generator=generator)
        run, step = picks // chance.shape[1], picks % chance.shape[1]
        rows = records[group]
        denoised, goal, area = rows["denoised"][run, step], rows["goal"][run], rows["area"][run]
        target = area * (goal - denoised)
        anyone = torch.randint(len(choices), (share,), generator=generator)
        choice = torch.where(rows["choice"][run] < 0, anyone, rows["choice"][run])
        part = {"denoised": denoised, "level": rows["level"][run, step], "target": target, "size": energy(target)}
        part["label"] = first + 2 * choice + READ
        led = {name: values[part["size"] > 0] for name, values in part.items()}
        along = expand((2 * torch.rand(len(led["size"]), generator=generator) - 1).clamp_min(0))
        led |= {"denoised": led["denoised"] + along * led["target"], "target": (1 - along) * led["target"]}
        parts += [part, led | {"label": led["label"] + LED - READ}]
        first += 2 * len(choices)
    rows = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    reach = [round(MOVED * side) for side in rows["target"].shape[2:]]
    by = torch.stack([torch.randint(-r, r + 1, (len(rows["label"]),), generator=generator) for r in reach], 1)
    rows |= {name: moved(rows[name], by) for name in ("denoised", "target")}
    return {name: values.to(device) for name, values in rows.items()}


def moved(latents, by):
    """(N, C, H, W) moved by (N, 2) pixels, down and to the right; edges are repeated."""
    places = ((torch.arange(n) - b[:, None]).clamp(0, n - 1) for n, b in zip(latents.shape[2:], by.unbind(1)))
    (down, right), picture = places, torch.arange(len(latents))
    return latents.movedim(1, -1)[picture[:, None, None], down[:, :, None], right[:, None]].movedim(-1, 1)
