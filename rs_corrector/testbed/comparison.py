"""What a correction did, in any world whose pictures can be read: the project's metrics.

A world gives

    groups      names, in the order of the values of the attribute "group"
    column      {attribute: its column}
    sizes       {attribute: number of values}, in the order of the columns
    planted     {attribute: (group, value)} the stereotypes
    content     {attribute: difference that still counts as the same}
    ordered     attributes whose values have an order
    read        function (pictures) -> a tuple that begins with (N, A) attributes and the (N, C, H, W) signed residual
                to the nearest drawable picture
    drawing     function ((N, A)) -> (N, C, H, W) pictures as they are drawn, without texture

and pictures, (N, C, H, W), come as {group: pictures}, the same seeds before and after.
"""

import torch
import torch.nn.functional as F

from ..metrics import chance_distance, total_variation, wilson

#: A pixel that differs by more than this is drawn otherwise.
VISIBLE = 0.02


def compare(world, kind, before, after, natural=None, read_before=None, read_after=None, preferred=None):
    """Metrics of one planted stereotype.

    Args:
        kind: the attribute that carries it.
        before: {group: pictures}, uncorrected; of groups that are not the stereotype's there may be more than after.
        after: {group: pictures} of the same seeds, the corrector for the stereotype's group left on in every group.
        natural: uncorrected pictures that never showed it, to tell a natural texture by; None takes those of `before`
            that show nothing planted.
        read_before, read_after: what `world.read` says of them, {group: reading}; None reads them here.
        preferred: values that are to be shown instead; None is the first other one, as `portraits.phrases` words it.

    Returns:
        {"stereotype_rate", "stereotype_gap"}: {"before", "after"}; rates are Wilson intervals. The gap is to the other
        groups as they were before, so that harm done to them closes none.
        "preferred_rate": of pictures that showed the stereotype, how many show a preferred value instead; less than
        those that show it no more where some come out in between, as a third value.
        {"group_retention", "content_kept"}: mean shares of the group's pictures.
        {"kept", "distance", "distance_by_chance", "shift"}: by attribute, see `drift`.
        {"distribution_distance", "chance_distance"}: total variation between the attribute's values in the corrected
        group and in the others, and what chance gives at this number of pictures.
        {"texture_ratio", "ghost_ratio"}: see `traces`, of pictures that showed the stereotype and do no more.
        {"others_content_kept", "others_attribute_kept", "others_shown_kept"}: mean shares of other groups' pictures;
        the second also of the group's own that needed nothing, the last a Wilson interval over those only that showed
        the value themselves.
        "collateral_change": see `collateral`.
        Values are None where there is nothing to compare.

    Raises:
        ValueError: a kind that is not planted.
    """
    if kind not in world.planted:
        raise ValueError(f"expected a kind out of {', '.join(world.planted)}, got {kind!r}; take one that is planted")
    group, value = world.planted[kind]
    first = {g: pictures[: len(after[g])] for g, pictures in before.items()}
    read, new = read_before or readings(world, before), read_after or readings(world, after)
    old = {g: reading[0][: len(after[g])] for g, reading in read.items()}
    others = [g for g in before if g != group]
    column = world.column[kind]
    shown = old[group][:, column] == value
    was, now = old[group], new[group][0]
    elsewhere = torch.cat([read[g][0][:, column] for g in others])
    typical = sum(float((read[g][0][:, column] == value).float().mean()) for g in others) / len(others)
    rates = {"before": wilson(shown), "after": wilson(now[:, column] == value)}
    needless = [(old[g], new[g][0]) for g in others] + [(was[~shown], now[~shown])]
    unchanged = [a[:, column] == b[:, column] for a, b in needless]
    own_value = [a[:, column] == value for a, _ in needless]
    if natural is None:
        clean = {g: shows_none(world, reading[0]) for g, reading in read.items()}
        rows, residual = (torch.cat([read[g][i][clean[g]] for g in before]) for i in (0, 1))
    else:
        rows, residual, *_ = world.read(natural)
        kept = rows[:, column] != value
        rows, residual = rows[kept], residual[kept]
    mended = shown & (now[:, column] != value)
    instead = torch.isin(now[shown, column], torch.tensor(preferred or [int(value == 0)]))
    texture, ghost = traces(new[group][1][mended], shows(world, kind, was[mended]), residual, shows(world, kind, rows))
    index = world.groups.index(group)
    others_kept = [content_kept(world, old[g], new[g][0], (kind,)) for g in others]
    return {
        "stereotype_rate": rates,
        "stereotype_gap": {side: rate["value"] - typical for side, rate in rates.items()},
        "preferred_rate": rate_or_none(instead),
        "group_retention": (now[:, world.column["group"]] == index).float().mean().item(),
        "content_kept": content_kept(world, was, now, (kind,)).mean().item(),
        **drift(world, kind, was, now),
        "distribution_distance": total_variation(now[:, column], elsewhere, world.sizes[kind]),
        "chance_distance": chance_distance(now[:, column], elsewhere, world.sizes[kind]),
        "texture_ratio": texture,
        "ghost_ratio": ghost,
        "others_content_kept": torch.cat(others_kept).mean().item(),
        "others_attribute_kept": torch.cat(unchanged).float().mean().item(),
        "others_shown_kept": rate_or_none(torch.cat(unchanged)[torch.cat(own_value)]),
        "collateral_change": collateral(first, after, group, shown),
    }


def readings(world, pictures):
    """What a world reads of {group: pictures}: {group: reading}."""
    return {group: world.read(own) for group, own in pictures.items()}


def as_others(world, kind, known):
    """The share of a group's pictures to keep for it to be drawn like all others: their rate over its own, at most 1.

    Args:
        known: {group: (N, A) attributes} of uncorrected pictures.
    """
    group, value = world.planted[kind]
    shown = {g: rows[:, world.column[kind]] == value for g, rows in known.items()}
    others = torch.cat([flags for g, flags in shown.items() if g != group])
    return min(1.0, float(others.float().mean() / shown[group].float().mean()))


def rate_or_none(flags):
    """The Wilson interval of flags, None where there are none."""
    return wilson(flags) if len(flags) else None


def drift(world, kind, before, after):
    """What became of every content attribute of one group, (N, A), (N, A): {measure: {attribute: value}}.

    kept: share unchanged, within the attribute's tolerance. distance: total variation of its values before and after,
    distance_by_chance: what chance gives two samples as large. shift: mean step, where values have an order.
    """
    found = {"kept": {}, "distance": {}, "distance_by_chance": {}, "shift": {}}
    for name, tolerance in world.content.items():
        if name == kind:
            continue
        a, b = (rows[:, world.column[name]] for rows in (before, after))
        found["kept"][name] = ((a - b).abs() <= tolerance).float().mean().item()
        found["distance"][name] = total_variation(a, b, world.sizes[name])
        found["distance_by_chance"][name] = chance_distance(a, b, world.sizes[name])
        if name in world.ordered:
            found["shift"][name] = (b - a).float().mean().item()
    return found


def content_kept(world, before, after, without=()):
    """Mean share of content attributes that stayed, per picture: (N, A), (N, A) -> (N,)."""
    same = [
        (before[:, world.column[name]] - after[:, world.column[name]]).abs() <= tolerance
        for name, tolerance in world.content.items()
        if name not in without
    ]
    return torch.stack(same).float().mean(0)


def shows_none(world, attributes):
    """(N, A) -> (N,) flags of pictures that show no planted stereotype."""
    shown = [attributes[:, world.column[name]] == value for name, (_, value) in world.planted.items()]
    return ~torch.stack(shown).any(0)


def shows(world, kind, attributes):
    """Where pictures would be drawn otherwise, with the planted value and without: (N, A) -> (N, H, W) flags."""
    column, value = world.column[kind], world.planted[kind][1]
    showing, not_showing = attributes.clone(), attributes.clone()
    showing[:, column] = value
    not_showing[attributes[:, column] == value, column] = int(value == 0)
    return (world.drawing(showing) - world.drawing(not_showing)).abs().amax(1) > VISIBLE


def collateral(before, after, group, shown):
    """Mean change of pictures that needed none, over that of those that did; None where those did not change."""
    change = {g: (after[g] - before[g]).abs().mean((1, 2, 3)) for g in before}
    needless = torch.cat([change[group][~shown], *(c for g, c in change.items() if g != group)])
    corrected = change[group][shown].mean().item() if shown.any() else 0.0
    return needless.mean().item() / corrected if corrected > 0 else None


def traces(residual, area, natural, natural_area):
    """(texture_ratio, ghost_ratio): what a correction leaves inside the part that it redrew.

    High-pass energy of the residual to the nearest drawable picture over that of natural pictures in the same part,
    below 1 a blur; the same with the low-pass energy, its squared smooth offset, far above 1 a ghost or a tint. Natural
    pictures come from the same sampler: few steps smoothen what they draw, and that is no fault of a correction.

    Args:
        residual, natural: (N, C, H, W) signed. area, natural_area: (N, H, W) flags.
    """
    if not (area.any() and natural_area.any()):
        return None, None
    ours, theirs = bands(residual, area), bands(natural, natural_area)
    return tuple((a / b).item() if b > 0 else None for a, b in zip(ours, theirs))


def bands(residual, area, reach=5):
    """Mean energy of a residual inside an area: (above, below) a box of `reach` pixels that stays inside the area."""
    mask = area[:, None].to(residual.dtype)

    def smooth(t):
        return F.avg_pool2d(t, reach, 1, reach // 2, count_include_pad=False)

    low = smooth(residual * mask) / smooth(mask).clamp_min(1e-6) * mask
    high = (residual - low) * mask
    pixels = mask.sum() * residual.shape[1]
    return high.square().sum() / pixels, low.square().sum() / pixels
