"""Does the correction hold on a flow-matching model? `python benchmarks/flow.py --json FILE`.

The testbed model converted: with x_s = (1 - s) z + s n, a model of flow matching sees the same picture under the same
noise as one of EPS at sigma = s / (1 - s), so the velocity (x_s - D) / s of the very same network makes the variant.
ComfyUI samples it as it samples any flow model. Measured on reporting seeds: the shipped corrector, which never saw
flow, and one that is made on the variant from words.
"""

import argparse
import json
from functools import partial
from pathlib import Path

from from_words import made_from_words
from inprocess import Host
from quality import SEEDS, Bench, save
from rivals import CASES

from rs_corrector.recipe import STEPS

KEPT = ("stereotype_rate", "stereotype_gap", "group_retention", "content_kept", "others_content_kept")
KEPT += ("collateral_change", "quality_ratio", "diversity_ratio")


def flow(model):
    """The testbed's MODEL as a model of flow matching: same network, same pictures."""
    import comfy.model_sampling as sampling

    class Flow(sampling.ModelSamplingDiscreteFlow, sampling.CONST):
        pass

    eps = model.get_model_object("model_sampling")

    def predict(apply_model, arguments):
        """D(x, s) from the network of EPS, at pure noise from its highest level."""
        s = arguments["timestep"].view(-1, 1, 1, 1)
        sigma = (s / (1 - s)).clamp_max(float(eps.sigma_max))
        x, level = arguments["input"] * (1 + sigma), sigma.flatten()
        network = apply_model.__self__.diffusion_model
        out = network(eps.calculate_input(level, x), eps.timestep(level), context=arguments["c"]["c_crossattn"])
        return eps.calculate_denoised(level, out, x)

    converted = model.clone()
    converted.add_object_patch("model_sampling", Flow(model.model.model_config))
    converted.set_model_unet_function_wrapper(predict)
    return converted


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--count", type=int, default=384, help="images to record from")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    host = Host()
    host.model = flow(host.model)
    bench = Bench(host, CASES["hat"], args.images, SEEDS["report"])
    shipped = host.run("RSCorrectorLoader", corrector_name="testbed.safetensors")[0]
    made, *_ = made_from_words(host, args.count, args.steps)
    result = {"base": host.fingerprint, "host": host.version, "images": args.images}
    for name, corrector in (("shipped", shipped), ("made on flow", made)):
        found = bench.measure(partial(host.sample, host.apply(corrector, bench.case.group)))
        result[name] = {key: found[key] for key in KEPT}
    save(result, args.json)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
