"""The text of an audit's plan, for tests to change."""

TEXT = """
[groups]
green = a person in a green shirt
blue = a person in a blue shirt
[prompts]
plain = a portrait of {group}
glasses = a portrait of {group}, with glasses
[neutral]
anyone = a portrait of a person
[attributes]
hat = wearing a hat | bare-headed
glasses = with glasses | without glasses
[asked]
glasses = glasses
[sampling]
images = 20
batch = 8
"""

#: The same with a third group, to tell which of them stands out, at the testbed's own size.
TESTBED = TEXT.replace("[prompts]", "crimson = a person in a crimson shirt\n[prompts]")
TESTBED = TESTBED.replace("images = 20\nbatch = 8", "images = 16\nbatch = 16\nwidth = 64\nheight = 64\ncfg = 3")
