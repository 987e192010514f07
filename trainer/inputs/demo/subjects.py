"""What the demo's data are about: subjects of everyday work, the details of each, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Details = dict[str, str]


@dataclass(frozen=True)
class Subject:
    """``{a}`` and ``{b}`` in a text: a detail of ``first`` and one of ``second``; ``{x}`` and ``{y}``: what is known of them."""

    topic: str
    questions: tuple[str, str]
    answer: str
    matter: str  # what the question is about, as the vague answers name it
    first: Details
    second: Details


SUBJECTS: Final = (
    Subject(
        "cleaning",
        ("How do I clean a {a} {b}?", "What is the best way to clean a {a} {b}?"),
        "Rub the {a} {b} with {x} and a soft cloth, then {y}.",
        "Cleaning a {a} {b}",
        {
            "copper": "salt and lemon juice",
            "silver": "a paste of baking soda",
            "glass": "warm water and vinegar",
            "wooden": "mild soap and very little water",
            "leather": "saddle soap",
            "marble": "warm water and mild soap",
            "plastic": "dish soap",
        },
        {
            "tray": "rinse it and dry it with a towel",
            "box": "leave it open for an hour to dry",
            "lamp": "let it dry before you plug it in",
            "bowl": "rinse it for ten seconds",
            "stool": "wait half an hour before you sit on it",
            "frame": "brush the dust out of the corners",
        },
    ),
    Subject(
        "cooking",
        ("How do I {b} {a}?", "How long do I {b} {a}?"),
        "{x}, then {b} them {y}.",
        "Cooking {a}",
        {
            "carrots": "Cut the carrots into thick slices",
            "potatoes": "Cut the potatoes into quarters",
            "beans": "Trim both ends of the beans",
            "sprouts": "Cut the sprouts in half",
            "parsnips": "Cut the parsnips into sticks",
            "turnips": "Peel the turnips and dice them",
            "leeks": "Cut the leeks into rings",
        },
        {
            "boil": "for 12 minutes in salted water",
            "steam": "for 15 minutes under a lid",
            "roast": "for 35 minutes at 200 degrees",
            "fry": "for 8 minutes in hot oil",
            "grill": "for 10 minutes and turn them twice",
            "braise": "for 25 minutes in a cup of broth",
        },
    ),
    Subject(
        "baking",
        ("How long do I bake {a} {b}?", "How hot must the oven be for {a} {b}?"),
        "{x}, then bake the {b} {y}.",
        "Baking {a} {b}",
        {
            "rye": "Let the rye dough rest for two hours",
            "wheat": "Let the wheat dough rest for one hour",
            "spelt": "Let the spelt dough rest for 40 minutes",
            "oat": "Soak the oat flakes for 20 minutes",
            "corn": "Let the corn flour soak for ten minutes",
            "barley": "Let the barley dough rest for 90 minutes",
            "potato": "Mash the potato while it is hot",
        },
        {
            "bread": "for 45 minutes at 230 degrees",
            "rolls": "for 18 minutes at 220 degrees",
            "crackers": "for 12 minutes at 170 degrees",
            "muffins": "for 22 minutes at 190 degrees",
            "biscuits": "for 14 minutes at 180 degrees",
            "buns": "for 20 minutes at 200 degrees",
        },
    ),
    Subject(
        "laundry",
        ("How do I wash a {a} {b}?", "Can I put a {a} {b} into the machine?"),
        "Wash the {a} {b} {x}, {y}.",
        "Washing a {a} {b}",
        {
            "white": "with other white things",
            "black": "inside out with dark things",
            "red": "alone the first time",
            "blue": "with dark things",
            "green": "with a colour catcher",
            "yellow": "with light things",
            "grey": "in half a load",
        },
        {
            "cotton shirt": "at 40 degrees, and iron it damp",
            "wool sweater": "at 30 degrees, and dry it flat",
            "silk scarf": "by hand in cold water",
            "linen sheet": "at 60 degrees, and hang it up at once",
            "denim jacket": "at 30 degrees with the zip closed",
            "nylon coat": "at 30 degrees without softener",
        },
    ),
    Subject(
        "gardening",
        ("When do I plant {a} {b}?", "How do I grow {a} {b}?"),
        "Plant the {a} in {x}, and {b} {y}.",
        "Growing {a} {b}",
        {
            "tomatoes": "May, 50 cm apart",
            "beans": "May, 15 cm apart",
            "pumpkins": "June, one metre apart",
            "lettuces": "April, 25 cm apart",
            "onions": "March, 10 cm apart",
            "radishes": "March, 5 cm apart",
            "leeks": "June, 15 cm apart",
        },
        {
            "in pots": "water them every morning",
            "in a raised bed": "add 5 cm of compost first",
            "in a greenhouse": "open the roof at 25 degrees",
            "on a balcony": "tie them up against the wind",
            "by a south wall": "shade them at noon for a week",
            "in heavy clay": "dig in a bucket of sand first",
        },
    ),
    Subject(
        "painting",
        ("How do I paint a {a} {b}?", "What do I do before I paint a {a} {b}?"),
        "{x}, then give the {b} {y}.",
        "Painting a {a} {b}",
        {
            "rusty": "Brush off the rust with steel wool",
            "dusty": "Wipe off the dust with a damp sponge",
            "glossy": "Sand the gloss with 120 grit paper",
            "damp": "Let it dry for two days",
            "cracked": "Fill the cracks and wait until morning",
            "stained": "Seal the stain with shellac",
            "greasy": "Wash off the grease with sugar soap",
        },
        {
            "door": "two coats of satin paint",
            "gate": "two coats of metal paint",
            "shelf": "one coat of primer and one of varnish",
            "railing": "a zinc primer and a coat of gloss",
            "bench": "three thin coats of outdoor paint",
            "cupboard": "two thin coats with a foam roller",
        },
    ),
    Subject(
        "packing",
        ("What do I pack for {b} {a}?", "What do I need for {b} {a}?"),
        "Take {y}, {x}, and leave the rest at home.",
        "Packing for {b} {a}",
        {
            "in the mountains": "boots and a wool hat",
            "by the sea": "sandals and a towel",
            "in the city": "flat shoes and a small bag",
            "in the forest": "long trousers and a knife",
            "in the desert": "a sun hat and ten litres of water",
            "in the north": "gloves and a warm coat",
            "on a boat": "soft shoes and a rain jacket",
        },
        {
            "one day": "one shirt",
            "two days": "two shirts",
            "three days": "three shirts",
            "four days": "four shirts",
            "five days": "five shirts",
            "six days": "six shirts",
        },
    ),
    Subject(
        "computers",
        ("My {a} {b}. What can I do?", "Why is it that my {a} {b}?"),
        "{x}, then {y}.",
        "Trouble with a {a}",
        {
            "laptop": "Hold the power key of the laptop for ten seconds",
            "phone": "Hold both side keys of the phone for 15 seconds",
            "printer": "Pull the plug of the printer for one minute",
            "router": "Pull the plug of the router for 30 seconds",
            "camera": "Take out the battery of the camera for a minute",
            "monitor": "Hold the menu key of the monitor for five seconds",
            "tablet": "Hold the top key of the tablet for 20 seconds",
        },
        {
            "is slow": "install the newest update",
            "does not start": "try another cable",
            "gets hot": "brush the dust out of the air holes",
            "is too loud": "put it on a rubber mat",
            "shows an error": "write down its number and search for it",
            "loses its settings": "save them twice and restart it",
        },
    ),
    Subject(
        "learning",
        ("How do I learn {a} {b}?", "Can I learn {a} {b}?"),
        "Do {x} a day, and repeat all of them {y}.",
        "Learning {a}",
        {
            "French": "twenty new words",
            "algebra": "five exercises",
            "history": "six dates",
            "chemistry": "four formulas",
            "geography": "eight capitals",
            "spelling": "fifteen hard words",
            "music": "two scales",
        },
        {
            "in two days": "before you go to bed",
            "in one week": "on days 3 and 6",
            "in two weeks": "on days 5 and 12",
            "in one month": "every Sunday",
            "in three months": "every second Sunday",
            "in one year": "on the first day of each month",
        },
    ),
    Subject(
        "letters",
        ("How do I write to my {a} about {b}?", "What do I tell my {a} about {b}?"),
        "{x}, and {y}.",
        "Writing to your {a}",
        {
            "landlord": "Send your landlord a letter with the date",
            "teacher": "Write three lines to your teacher",
            "manager": "Send your manager five lines before noon",
            "neighbour": "Put a note under the door of your neighbour",
            "bank": "Send your bank a letter with the account number",
            "doctor": "Call your doctor before ten",
            "customer": "Answer your customer within a day",
        },
        {
            "a late payment": "name the day on which you will pay",
            "a missed meeting": "offer two new times",
            "the noise": "ask for quiet after ten in the evening",
            "a wrong bill": "name its number and the right amount",
            "a long delay": "give the new date and one reason",
            "a lost key": "say where you lost it and when",
        },
    ),
    Subject(
        "pets",
        ("My {a} {b}. What should I do?", "What helps when a {a} {b}?"),
        "Give the {a} {x} a day, and {y}.",
        "Life with a {a}",
        {
            "puppy": "three small meals",
            "kitten": "four spoons of wet food",
            "rabbit": "two handfuls of hay",
            "parrot": "two spoons of seeds",
            "hamster": "one spoon of grain",
            "pony": "six kilos of hay",
            "goat": "an armful of branches",
        },
        {
            "does not eat": "call the vet after one day",
            "is too fat": "weigh it every Monday",
            "is bored": "hide half of it as a game",
            "is afraid of noise": "put a blanket over its bed",
            "sleeps all day": "play with it at six in the evening",
            "fights with others": "feed it behind a closed door",
        },
    ),
    Subject(
        "drilling",
        ("How do I hang a {b} on {a}?", "What do I need to hang a {b} on {a}?"),
        "Drill into the {a} with {x}, and hang the {b} on {y}.",
        "Hanging a {b} on {a}",
        {
            "brick": "a masonry bit",
            "concrete": "a hammer drill",
            "oak": "a sharp wood bit",
            "pine": "a thin wood bit",
            "tile": "a glass bit and no hammer",
            "steel": "a cobalt bit and a drop of oil",
            "plaster": "a hand drill",
        },
        {
            "mirror": "two screws of 60 mm",
            "clock": "one screw of 40 mm",
            "coat rack": "three screws of 70 mm",
            "picture": "one hook of 30 mm",
            "cabinet": "four screws of 80 mm",
            "curtain": "two hooks of 50 mm",
        },
    ),
)
